"""Right answers: what is taken, that it stays, and what the next training makes of it."""

import base64
import contextlib
import csv
import io
import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import jichu
from jichu.core.errors import DataError, DiskFull, UsageError
from jichu.core.files import write_table
from jichu.data import corrections, requests
from jichu.data.dataset import Dataset
from jichu.data.readers import feedback as reader
from jichu.data.readers import read
from jichu.data.schema import TableSchema
from jichu.data.texts import ragged
from jichu.recipe.corrected import finetuning
from jichu.ship.server.errors import Refused
from jichu.ship.server.feedback import Feedback
from jichu.ship.server.settings import Settings
from served import server
from test_docs import blocks

SPLIT = {"test": 0.3, "validation": 0.0}


def table(folder):
    r = np.random.default_rng(0)
    with open(folder / "people.csv", "w") as file:
        out = csv.writer(file)
        out.writerow(["age", "town", "phone", "income"])
        for i in range(80):
            age = round(r.normal(40, 10), 2)
            out.writerow([age, "ab"[i % 2], f"no{i}", "high" if age > 40 else "low"])
    return str(folder / "people.csv"), {"target": "income", "columns": {"phone": "ignore"}}


def texts(folder):
    with open(folder / "reviews.csv", "w") as file:
        out = csv.writer(file)
        out.writerow(["review", "mood"])
        for i in range(60):
            out.writerow(
                [f"it was {'good' if i % 2 else 'bad'} on day {i} of {i * 7}", "yes" if i % 2 else "no"]
            )
    return str(folder / "reviews.csv"), {"target": "mood", "text": "review"}


def images(folder):
    r = np.random.default_rng(0)
    for i in range(60):
        place = folder / "photos" / ("dark", "light")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((r.integers(0, 90, (12, 12, 3)) + 150 * (i % 2)).astype(np.uint8)).save(
            place / f"{i}.png"
        )
    return str(folder / "photos"), {}


STARTS = {"table": (table, "cells"), "texts": (texts, "words"), "images": (images, "pixels")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feedback")
    found = {}
    with contextlib.chdir(folder):
        for kind, (make, backbone) in STARTS.items():
            path, config = make(folder)
            made = jichu.finetune(
                backbone, path, head="logistic-regression", name=kind, split=SPLIT, **config
            )
            found[kind] = folder / made.path
    return found


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (12, 12), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def logs(runs, tmp_path_factory):
    """A server was told right answers, some of what it had been asked."""
    folder = tmp_path_factory.mktemp("told")
    settings = {"keep": str(folder), "sample": 1.0, "keep_seconds": 0.1}
    with server(runs, **settings) as on, on.client() as client:

        def tell(model, answer, **more):
            return client.post("/v1/feedback", json={"model": model, "answer": answer, **more})

        asked = {"model": "table", "inputs": [{"age": 33.5, "town": "a"}, {"age": 44.5, "town": "b"}]}
        assert client.post("/v1/predict", json=asked, headers={"X-Request-Id": "asked"}).status_code == 200
        held = jichu.Run(runs["table"]).dataset()
        row = int(held.splits["test"][0])
        with open(runs["table"].parents[1] / "people.csv") as file:
            line = list(csv.DictReader(file))[int(held.names[row].rpartition(":")[2]) - 1]
        told = [
            tell("table", "low", request="asked", row=1, note="write to who@example.org"),
            tell("table", "high", request="asked", row=1),  # which holds
            tell("table", "low", request="never", row=0),
            tell("table", {"income": "low"}, input={"age": 99, "town": "new", "phone": "13800138000"}),
            tell("table", "high", input={"age": float(line["age"]), "town": line["town"]}),  # held out
            tell("texts", "yes", input="it was splendid, call 13800138000"),
            tell("images", "light", input=png((250, 250, 250))),
        ]
        assert [answer.status_code for answer in told] == [200] * 7, [answer.text for answer in told]
        refused = [
            tell("table", "middle", input={"age": 1, "town": "a"}), tell("table", 3.5, input={"age": 1, "town": "a"}),
            tell("table", "low"), tell("table", "low", input={"age": 1}), tell("images", "light", request="asked"),
            tell("images", "light", input="bm8gaW1hZ2U="), tell("table", {"age": 1}, input={"age": 1, "town": "a"}),
            tell("table", {}, input={"age": 1, "town": "a"}), tell("nobody", "low", input={}),
            tell("texts", "yes", input={"no": "text"}), tell("table", "low", request="a b"),
        ]  # fmt: skip
    return folder, [(answer.status_code, answer.json()["error"]["message"]) for answer in refused]


def test_answers_that_are_none_are_refused(logs):
    _, refused = logs
    assert [status for status, _ in refused] == [400] * 8 + [404, 400, 400]
    assert (
        "high, low" in refused[0][1] and "not kept whole" in refused[4][1] and "not an image" in refused[5][1]
    )


def test_lines_hold_no_personal_data_and_only_what_the_model_reads(logs):
    folder, _ = logs
    text = (folder / "table" / requests.FEEDBACK).read_text()
    assert "13800138000" not in text and "example.org" not in text and '"town": "new"' in text


def test_the_next_training_has_the_same_test_rows_and_right_answers_in_train(logs, runs):
    """As the issue has it: with one command."""
    folder, _ = logs
    for kind, added in (("table", 2), ("texts", 1), ("images", 1)):
        recipe = finetuning(str(folder / kind), {"from": str(runs[kind]), "head": "linear"})
        data = jichu.load(folder / kind, **{k: v for k, v in recipe.plain()["data"].items() if k != "path"})
        before = jichu.Run(runs[kind]).dataset()
        names = {split: [data.names[row] for row in rows.tolist()] for split, rows in data.splits.items()}
        assert names["test"] == [before.names[row] for row in before.splits["test"].tolist()], kind
        new = [name for name in names["train"] if name.startswith(requests.FEEDBACK)]
        assert len(new) == added and len(names["train"]) == len(before.splits["train"]) + added, kind


def test_held_out_rows_and_lost_inputs_are_left_out_and_told(logs):
    source = read(logs[0] / "table")
    told = {fault["record"]: fault["reason"] for fault in source.quarantine}
    assert told == {
        "feedback.jsonl:3": "its input was not kept",
        "feedback.jsonl:5": "exact duplicate of a held-out record",
    }
    at = list(source.names).index("feedback.jsonl:2")
    assert (
        source.columns["age"].values[at].as_py() == "44.5"
        and source.columns["income"].values[at].as_py() == "high"
    )
    assert source.columns["town"].values[-1].as_py() == "new"


def test_an_id_that_came_twice_tells_of_no_input(logs, tmp_path):
    """Clients give ids: which of two requests is meant nobody knows, unless both asked the same. Of the same input the last
    answer holds, whatever it is told by."""
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / requests.SERVED).write_text((logs[0] / "table" / requests.SERVED).read_text())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    asked = [("twice", 0, 1.0), ("twice", 0, 99.0), ("again", 0, 7.0), ("again", 0, 7.0), ("again", 1, 8.0)]
    ids, rows, ages = map(list, zip(*asked, strict=True))
    write_table(folder / "requests-1.parquet", pa.table({
        "time": pa.array([now] * 5, pa.timestamp("us", "UTC")), "request": ids, "row": rows, "version": ["a"] * 5,
        "input.age": ages, "input.town": ["a"] * 5,
    }))  # fmt: skip
    told = [
        {"request": "twice", "row": 0}, {"request": "again", "row": 0}, {"request": "again", "row": 0}, {"request": "again", "row": 1},
        {"request": "twice", "row": 0, "input": {"age": 5, "town": "a"}}, {"request": "twice", "row": 0, "input": {"age": 6, "town": "a"}},
        {"input": {"age": 7, "town": "a"}},
    ]  # fmt: skip
    answers = ["low", "high", "low", "low", "low", "low", "high"]
    lines = [
        json.dumps({**line, "answer": {"income": answer}}) for line, answer in zip(told, answers, strict=True)
    ]
    (folder / requests.FEEDBACK).write_text("\n".join(lines) + "\n")
    source = read(folder)
    assert {f["record"]: f["reason"] for f in source.quarantine} == {
        "feedback.jsonl:1": "the id was used for several requests"
    }
    at = [i for i, name in enumerate(source.names) if name.startswith("feedback.jsonl")]
    found = {
        float(source.columns["age"].values[i].as_py()): source.columns["income"].values[i].as_py() for i in at
    }
    assert found == {8: "low", 5: "low", 6: "low", 7: "high"} and len(at) == 4


def test_held_out_rows_are_known_without_their_personal_data():
    """Texts, and categories of a table, of which a folder of requests holds neither addresses nor numbers."""
    said = ["write to a@b.example", "write to c@d.example today", "call 13800138000"]
    table = TableSchema(("age",), (), {"contact": tuple(said)})
    cells = {"numbers": torch.arange(3.0)[:, None], "categories": torch.tensor([[1], [2], [3]])}
    splits = {"train": torch.tensor([2]), "test": torch.tensor([0, 1])}
    common = {"names": said, "splits": splits}
    rows = Dataset(tensors=cells, table=table, **common)
    texts = Dataset(tensors={}, texts={"text": ragged(said)}, text_columns=("said",), **common)
    told = [
        {"said": "write to [e-mail]"},
        {"said": "call [phone]"},
        {"said": "write to [e-mail] today"},
        {"said": "write"},
    ]
    made = corrections._Told(told, list("abcd"))
    corrections._leave_out(made, texts)
    assert made.names == ["b", "d"] and {fault["record"] for fault in made.faults} == {"a", "c"}
    ages = zip(told, (0, 2, 0, 1), strict=True)
    made = corrections._Told([{"age": age, "contact": row["said"]} for row, age in ages], list("abcd"))
    corrections._leave_out(made, rows)
    assert made.names == ["b", "c", "d"]


def test_one_command_trains_on_it(logs, runs, in_folder, capsys):
    from jichu.cli.main import main

    arguments = [
        "finetune",
        str(logs[0] / "images"),
        "--from",
        str(runs["images"]),
        "--head",
        "logistic-regression",
    ]
    assert main([*arguments, "--name", "again", "--json"]) == 0
    run = jichu.open("runs/again")
    assert (
        run.recipe.data.reader.name == "feedback"
        and run.config.image == jichu.Run(runs["images"]).config.image
    )
    assert (
        "feedback.jsonl:1" in list(run.dataset().names)
        and json.loads(capsys.readouterr().out)["name"] == "again"
    )


def test_images_that_were_kept_whole_need_not_come_again(runs, tmp_path):
    with (
        server({"images": runs["images"]}, keep=str(tmp_path), sample=1.0, keep_media="whole") as on,
        on.client() as client,
    ):
        named = {"X-Request-Id": "one"}
        assert client.post("/v1/predict", json={"inputs": [png((9, 9, 9))]}, headers=named).status_code == 200
        assert client.post("/v1/feedback", json={"request": "one", "answer": "light"}).status_code == 200
    source = read(tmp_path)
    assert base64.b64encode(source.columns["image"].values[-1]).decode() == png((9, 9, 9))
    label = source.columns["label"]
    assert label.classes[label.values[-1]] == "light" and source.splits[-1] == "train"


def test_a_folder_without_answers_or_whose_run_is_gone_is_told(logs, tmp_path):
    with pytest.raises(DataError, match="no feedback"):
        reader.read(tmp_path)
    with pytest.raises(UsageError, match="no run at"):
        reader.read(logs[0] / "table", run=str(tmp_path))
    (tmp_path / requests.SERVED).write_text(json.dumps({"run": "x"}))
    (tmp_path / requests.FEEDBACK).write_text('{"answer": 1}\n')
    with pytest.raises(DataError, match="no answer"):
        list(requests.corrections(tmp_path))


def full(path, rows):
    path.write_bytes(path.read_bytes() + b'{"answer"')
    raise DiskFull("no space is left on the disk", where=path)


def test_a_half_written_line_goes_and_there_is_an_end_of_room(tmp_path, monkeypatch):
    (tmp_path / requests.FEEDBACK).write_text('{"answer": {"a": 1}}\n{"answer": {"a"')
    made = Feedback(tmp_path, Settings(keep_most=1))
    made.add({"answer": {"a": 2}, "input": "\ud800"}, None)
    assert [line["answer"]["a"] for _, line in requests.corrections(tmp_path)] == [1, 2]
    with pytest.raises(Refused, match="no more room"):
        made.add({"answer": {"a": 3}, "input": "x" * 2**20}, None)
    with monkeypatch.context() as disk:
        disk.setattr("jichu.ship.server.feedback.append_jsonl", full)
        with pytest.raises(Refused, match="disk is full"):
            made.add({"answer": {"a": 3}}, None)
    assert len(list(requests.corrections(tmp_path))) == 2
    synced = []
    monkeypatch.setattr("jichu.ship.server.feedback.flush", synced.append)
    made.add({"answer": {"a": 3}}, None)
    assert synced == [tmp_path / requests.FEEDBACK]


def test_the_page_on_feedback_runs(runs, tmp_path):
    (code,) = blocks("docs/feedback.md", "python")
    with server({"people": runs["table"]}, keep=str(tmp_path), sample=1.0, new_classes=True) as on:
        exec(compile(code.replace("http://127.0.0.1:8000", on.address), "feedback.md", "exec"), {})
    assert len(list(requests.corrections(tmp_path / "people"))) == 2
