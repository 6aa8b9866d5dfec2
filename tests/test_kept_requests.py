"""What a server keeps of what it is asked: which rows, what of them, when, how much; and what of that drift sees."""

import base64
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import killing
from jichu.core.errors import DataError, DiskFull, UsageError
from jichu.core.files import read_table
from jichu.data import requests
from jichu.ship.server import keeping
from jichu.ship.server.metrics import Metrics
from jichu.ship.server.settings import Settings
from served import SAID, make, png, server

KINDS = ("images", "table", "reviews")
SECRET = "c1b9e07f5d2a4b7f8e3355aa90d1c2e4"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def kept(runs, tmp_path_factory):
    """What was answered, and the folder in which it was kept."""
    folder = tmp_path_factory.mktemp("kept")
    tokens = folder / "tokens"
    tokens.write_text(f"app {SECRET}\n")
    answers = {}
    with (
        server(
            runs, tokens, keep=str(folder / "logs"), sample=1.0, keep_rows=4, keep_media="thumbnail"
        ) as on,
        on.client(SECRET) as client,
    ):
        for kind, inputs in ASKED.items():
            asked, named = {"model": kind, "inputs": inputs}, {"X-Request-Id": f"ask-{kind}"}
            answers[kind] = client.post("/v1/predict", json=asked, headers=named).json()
        asked = {"model": "reviews", "input": ASKED["reviews"]}
        answers["features"] = client.post("/v1/embeddings", json=asked).json()
        for _ in range(500):
            if (counted := client.get("/metrics").text).count("jichu_rows_kept_total{") == 1:
                break
            time.sleep(0.01)
    return folder / "logs", answers, counted


ASKED = {
    "images": [base64.b64encode(png()).decode(), base64.b64encode(png(size=(40, 20))).decode()],
    "table": [{"age": i / 2, "town": "b" if i else "elsewhere", "phone": "13800138000"} for i in range(5)],
    "reviews": [SAID[0][:20], "call 13800138000 or write to who@example.org"],
}


def rows(folder, kind):
    return requests.read_requests(folder / kind)


def test_what_the_model_reads_and_says_is_kept(kept):
    folder, answers, counted = kept
    table = rows(folder, "table")
    assert (
        table["input.age"].to_pylist() == [0, 0.5, 1, 1.5, 2]
        and table["input.town"][0].as_py() == "elsewhere"
    )
    assert table[requests.REQUEST].to_pylist() == ["ask-table"] * 5 and table[
        requests.ROW
    ].to_pylist() == list(range(5))
    assert set(table[requests.VERSION].to_pylist()) == {answers["table"]["system_fingerprint"]}
    said = answers["table"]["predictions"]
    assert table["prediction.kind"].to_pylist() == [row["label"] for row in said]
    assert np.allclose(
        [s[1] for s in table["scores.kind"].to_pylist()], [row["scores"]["yes"] for row in said]
    )
    assert table.schema.field(requests.TIME).type == pa.timestamp("us", "UTC")
    assert (
        len(requests.files_of(folder / "table")) == 1
        and 'jichu_rows_kept_total{model="table"} 5.0' in counted
    )


def test_columns_that_the_model_does_not_read_are_not_kept_nor_who_asks(kept):
    folder, _, _ = kept
    assert "input.phone" not in rows(folder, "table").column_names
    texts = rows(folder, "reviews")["input.text"].to_pylist()
    assert texts == [SAID[0][:20], "call [phone] or write to [e-mail]"]
    for file in folder.rglob("*"):
        if file.is_file():
            held = file.read_bytes()
            assert SECRET.encode() not in held and b"127.0.0.1" not in held and b"13800138000" not in held


def test_features_are_those_that_the_model_gives(kept):
    folder, answers, _ = kept
    wanted = [row["embedding"] for row in answers["features"]["data"]]
    assert np.allclose(rows(folder, "reviews")[requests.EMBEDDING].to_pylist(), wanted, atol=1e-5)


def test_images_leave_numbers_and_a_thumbnail(kept):
    table = rows(kept[0], "images")
    assert "input.image" not in table.column_names and table["thumbnail"][0].as_py()[:4] == b"\x89PNG"
    assert table["trait.width"].to_pylist() == [8, 40] and table["trait.height"].to_pylist() == [8, 20]
    assert {"trait.brightness", "trait.contrast", "trait.red"} <= set(table.column_names)


def test_a_share_is_chosen_by_the_name_of_the_request():
    found = [[requests.sampled(f"r{i}", 0, share) for i in range(4000)] for share in (0.0, 0.1, 1.0)]
    assert not any(found[0]) and all(found[2]) and 0.08 < np.mean(found[1]) < 0.12
    assert found[1] == [requests.sampled(f"r{i}", 0, 0.1) for i in range(4000)]
    assert np.mean([requests.sampled("one", row, 0.1) for row in range(4000)]) < 0.12


def test_without_a_folder_nothing_is_kept(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with server({"table": runs["table"]}) as on, on.client() as client:
        assert client.post("/v1/predict", json={"inputs": ASKED["table"]}).status_code == 200
        assert client.post("/v1/feedback", json={"input": {}, "answer": "no"}).status_code == 404
    assert list(tmp_path.iterdir()) == []


# --- the thread


class Given:
    """What a model that is served gives away of itself."""

    name, version, kind = "table", "table@1", "text"

    class run:
        class config:
            targets: dict = {}  # noqa: RUF012
            text = type("Text", (), {"pair": False, "columns": ()})


@pytest.fixture
def keeper(tmp_path):
    made = []

    def make_one(**settings):
        given = Settings(keep=str(tmp_path / "logs"), sample=1.0, **settings)
        made.append(keeping.Keeper(given, Metrics(), {"table": tmp_path / "run"}))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def offer(one, request, text="something", size=100):
    return one.offer(request, Given, [text], None, keeping.Answered([{}], {}), size)


def wait_for(what):
    for _ in range(500):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def count(one, name):
    return one._metrics.registry.get_sample_value(f"jichu_rows_{name}_total", {"model": "table"}) or 0


def test_files_are_written_by_rows_by_time_and_at_the_end(keeper):
    one = keeper(keep_rows=3, keep_seconds=0.2)
    one.__enter__()
    for i in range(3):
        offer(one, f"a{i}")
    wait_for(lambda: len(requests.files_of(one.folder / "table")) == 1)
    offer(one, "b")
    wait_for(lambda: count(one, "kept") == 4)
    offer(one, "c")
    one.close()
    assert rows(one.folder, "table")[requests.REQUEST].to_pylist() == ["a0", "a1", "a2", "b", "c"]


def test_what_there_is_no_room_for_is_dropped_and_counted(keeper, monkeypatch):
    monkeypatch.setattr(keeping, "_ROOM", 250)
    one = keeper()
    for i in range(5):  # nobody writes yet
        offer(one, f"a{i}")
    assert count(one, "not_kept") == 3
    one.__enter__()
    one.close()
    assert count(one, "kept") == 2


def test_a_full_disk_is_told_once_and_serving_goes_on(keeper, monkeypatch):
    one = keeper(keep_rows=1)
    full = [True]

    def write(path, table, real=keeping.write_table):
        if full[0]:
            raise DiskFull("no space is left on the disk", where=path)
        real(path, table)

    monkeypatch.setattr(keeping, "write_table", write)
    one.__enter__()
    told = []
    for i in range(3):
        told.append(offer(one, f"a{i}"))
        wait_for(lambda i=i: count(one, "not_kept") == i + 1)
    assert [t for t in told if t] == [{"not_kept": "no space is left on the disk"}]
    full[0] = False
    offer(one, "b")
    wait_for(lambda: count(one, "kept") == 1)


def test_the_oldest_go_where_the_folder_is_too_large(keeper, monkeypatch):
    one = keeper(keep_rows=1, keep_most=1)
    for i in range(3):
        (one.folder / "table" / f"requests-2020010{i}.parquet").write_bytes(b"x" * 400_000)
    one.__enter__()
    offer(one, "a")
    wait_for(lambda: count(one, "kept") == 1)
    one.close()
    left = [file.name for file in requests.files_of(one.folder / "table")]
    assert left[:2] == ["requests-20200101.parquet", "requests-20200102.parquet"] and len(left) == 3


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        keeping.Keeper(Settings(keep=str(tmp_path / "file")), Metrics(), {"a": tmp_path})
    with pytest.raises(UsageError, match="name for a folder"):
        keeping.Keeper(Settings(keep=str(tmp_path)), Metrics(), {"..": tmp_path})


def test_another_run_of_the_same_name_takes_no_folder_over(tmp_path, monkeypatch):
    settings = Settings(keep=str(tmp_path / "logs"))
    keeping.Keeper(settings, Metrics(), {"a": tmp_path / "one" / "a"})
    with pytest.raises(UsageError, match="another run of that name") as told:
        keeping.Keeper(settings, Metrics(), {"a": tmp_path / "two" / "a"})
    assert (
        "NAME=RUN" in told.value.expected
        and requests.served_run(tmp_path / "logs" / "a") == tmp_path / "one" / "a"
    )
    monkeypatch.chdir(tmp_path)
    keeping.Keeper(settings, Metrics(), {"a": Path("one/a")})  # the same
    (tmp_path / "logs" / "a" / requests.SERVED).unlink()
    keeping.Keeper(settings, Metrics(), {"a": tmp_path / "two" / "a"})


def test_damaged_files_and_several_models_are_told(kept, tmp_path):
    with pytest.raises(DataError, match="3 models"):
        requests.folder_of(kept[0])
    (tmp_path / "requests-1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="damaged"):
        requests.read_requests(tmp_path)
    assert read_table(requests.files_of(kept[0] / "table")[0]).num_rows == 5


def test_killed_at_any_instant_files_are_whole_or_not_there(tmp_path):
    """Before every file operation of the server's thread, one after the other, until it comes to its end."""
    found, at, code = set(), 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        folder = tmp_path / str(at)

        def keep(folder=folder, at=at):
            killing.Instants(folder, killing.kill, at).watch()
            with keeping.Keeper(
                Settings(keep=str(folder), sample=1.0, keep_rows=2), Metrics(), {"table": folder}
            ) as one:
                for i in range(4):
                    offer(one, f"a{i}")

        code = killing.forked(keep, tmp_path / "said")
        kept_rows = requests.read_requests(folder / "table") if folder.exists() else None
        found.add(() if kept_rows is None else tuple(kept_rows[requests.REQUEST].to_pylist()))
        at += 1
    assert code == 0, (tmp_path / "said").read_text()
    assert found == {(), ("a0", "a1"), ("a0", "a1", "a2", "a3")} and at > 6
