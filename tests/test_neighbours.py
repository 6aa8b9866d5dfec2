"""The nearest training rows and the held-out ones: against brute force, and against what the run itself says."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from explored import make
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.data.sound import decode_sound
from jichu.exploring import examples, seen
from jichu.metrics import similarity
from jichu.metrics.similarity import nearest
from jichu.models import folder as model_folder
from jichu.runs import Run
from jichu.ship.server.shown import _prepare as prepare

KINDS = ("images", "table", "reviews", "sounds")


@pytest.fixture
def runs(explored):
    return explored


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 70), st.integers(0, 99))
def test_the_nearest_are_those_of_brute_force(count, width, k, seed):
    """Whatever the blocks; of rows that are equally far the earlier come first."""
    rng = np.random.default_rng(seed)
    features, queries = rng.integers(-3, 4, (count, width)).astype(np.float32), rng.normal(size=(3, width))
    unit = [
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        for x in (features.astype(float), queries)
    ]
    wanted = 1 - unit[1] @ unit[0].T
    before, similarity._CELLS = similarity._CELLS, 21
    try:
        places, distances = nearest(features, queries, k)
    finally:
        similarity._CELLS = before
    assert places.shape == distances.shape == (3, min(k, count))
    for q in range(3):
        assert np.allclose(distances[q], np.sort(wanted[q])[:k], atol=1e-9)
        assert len(set(places[q].tolist())) == places.shape[1]
        assert np.allclose(wanted[q][places[q]], distances[q], atol=1e-9)
        same = np.flatnonzero(np.diff(distances[q].round(12)) == 0)
        assert k < count or (places[q][same] < places[q][same + 1]).all()


@pytest.mark.parametrize("cells", [similarity._CELLS, 700])
def test_of_many_rows_that_are_equally_far_the_first_come_first(monkeypatch, cells):
    """More than there is room for among the candidates, be they the nearest or behind others."""
    monkeypatch.setattr(similarity, "_CELLS", cells)
    features = np.random.default_rng(0).normal(size=(1, 5)).repeat(3000, 0)
    features[::2] *= 3
    assert nearest(features, features[:2], 5)[0].tolist() == [[0, 1, 2, 3, 4]] * 2
    features[[7, 2900]] = np.random.default_rng(1).normal(size=5)
    assert nearest(features, features[7:8], 5)[0].tolist() == [[7, 2900, 0, 1, 2]]


def whole(run, example):
    """What is shown of a row, as it would be given to the model."""
    kind = run.config.kind
    return {"image": lambda: example.png(None), "audio": example.wav, "table": lambda: example.cells,
            "text": lambda: example.texts[0]}[kind]()  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_row_is_nearest_to_itself(runs, kind):
    run = Run(runs[kind])
    rows = run.dataset().splits["train"][:4]
    told = [run.sample(int(row)).example for row in rows]
    found = run.neighbours([whole(run, example) for example in told], 3)
    train = run.dataset().splits["train"].tolist()
    for row, mine, near in zip(rows.tolist(), told, found, strict=True):
        far = [one.distance for one in near]
        assert far == sorted(far) and far[0] < 1e-5 and all(one.example.row in train for one in near)
        twins = [one.example for one in near if one.distance < 1e-5]
        assert row in [one.row for one in twins] or len(twins) == 3  # rows may be equal
        assert mine.split == "train" and mine.record == run.dataset().names[row]
    with pytest.raises(UsageError, match="0 neighbours"):
        run.neighbours([whole(run, told[0])], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_of_a_row_is_what_the_model_reads(runs, kind):
    run = Run(runs[kind])
    page = run.samples(count=12).page
    said = run.predict([whole(run, sample.example) for sample in page])
    (column,) = page[0].prediction
    for sample, other in zip(page, said, strict=True):
        mine = sample.prediction[column]
        assert mine["label"] == other["label"] and mine["score"] == pytest.approx(other["score"], abs=1e-3)
        data = run.dataset()
        assert sample.example.truth[column] == data.classes[data.tensors["label"][sample.example.row]]
        told = sample.plain()
        assert json.loads(json.dumps(told)) == told and "record" not in told and "sound" not in told
    if kind == "images":
        pixels = np.asarray(Image.open(io.BytesIO(page[0].example.png())))
        assert (pixels == run.dataset().tensors["image"][page[0].example.row][0].numpy()).all()
    if kind == "sounds":
        data, example = run.dataset(), page[0].example
        heard = decode_sound(example.wav(), data.preprocess).astype(int)
        assert np.abs(heard - data.tensors["audio"][example.row].numpy()).max() <= 1
        assert run.sample(example.row).plain(whole=True)["sound"].startswith("data:audio/wav;base64,")


def test_samples_by_what_is_said_of_them(runs):
    run = Run(runs["images"])
    every = run.samples(count=1000)
    assert every.total == every.of == len(every.page) == len(run.dataset().splits["test"])
    (truth, said) = (
        [s.example.truth["label"] for s in every.page],
        [s.prediction["label"]["label"] for s in every.page],
    )
    rows = [s.example.row for s in every.page]
    wrong = run.samples(wrong=True, count=1000)
    assert [s.example.row for s in wrong.page] == [
        r for r, t, p in zip(rows, truth, said, strict=True) if t != p
    ]
    assert 0 < wrong.total < every.total
    third = run.samples(label="3", start=2, count=5)
    assert [s.example.row for s in third.page] == [r for r, t in zip(rows, truth, strict=True) if t == "3"][
        2:7
    ]
    doubtful = [s.prediction["label"]["score"] for s in run.samples(order="uncertain", count=1000).page]
    assert doubtful == sorted(doubtful)
    for odd in ({"label": "33"}, {"count": 0}, {"start": -1}, {"wrong": True, "column": "x"}):
        with pytest.raises(UsageError):
            run.samples(**odd)
    with pytest.raises(UsageError, match="no row 99999"):
        run.sample(99999)


def test_features_are_found_once_and_never_stale(runs, tmp_path, monkeypatch):
    folder = make(tmp_path / "table", "table", steps=3)
    row = {"age": 30, "income": 20.0, "job": "clerk"}
    first = Run(folder).neighbours(row)[0]
    calls, embed = [], seen.embed
    monkeypatch.setattr(seen, "embed", lambda *given: calls.append(1) or embed(*given))
    assert Run(folder).neighbours(row)[0] == first and not calls  # kept
    (file,) = (folder / "cache").glob("features-train-*")
    file.write_bytes(file.read_bytes()[:50])
    assert Run(folder).neighbours(row)[0] == first and len(calls) == 1  # damaged
    run = Run(folder)
    with torch.no_grad():
        next(run.model.backbone.parameters()).mul_(-3)
    model_folder.save(folder / "model", run.model, run.config)
    other = Run(folder).neighbours(row)[0]
    assert len(calls) == 2 and other != first  # another model
    data = folder / "loans.csv"
    data.write_text(data.read_text().replace(".1,", ".2,"))
    Run(folder).neighbours(row)
    assert len(calls) == 3  # other data


def test_of_many_rows_an_even_sample_is_looked_at(runs, monkeypatch):
    monkeypatch.setitem(seen.MOST, "train", 10)
    run = Run(runs["images"])
    rows = run.seen().rows("train")
    train = run.dataset().splits["train"].sort().values
    assert len(rows) == 10 and {int(rows[0]), int(rows[-1])} == {int(train[0]), int(train[-1])}
    near = run.neighbours([whole(run, run.samples(count=1).page[0].example)], 50)[0]
    assert sorted(one.example.row for one in near) == rows.tolist()


def test_long_texts_and_wide_rows_are_cut_and_say_so(runs, monkeypatch):
    monkeypatch.setattr(examples, "CHARACTERS", 10)
    monkeypatch.setattr(examples, "COLUMNS", 2)
    told = [Run(runs[kind]).samples(count=1).page[0].plain() for kind in ("reviews", "table")]
    assert len(told[0]["texts"][0]) == 10 and len(told[1]["cells"]) == 2 and told[0]["cut"] and told[1]["cut"]


def test_without_a_head_there_are_neighbours_all_the_same(tmp_path):
    run = Run(make(tmp_path / "run", "images", head=False))
    page = run.samples(count=2).page
    assert page[0].prediction == {} and len(run.neighbours(whole(run, page[0].example), 2)[0]) == 2
    with pytest.raises(UsageError, match="no head"):
        run.samples(wrong=True)


def test_the_command(runs, tmp_path, capsys):
    image = Run(runs["images"]).samples(count=1).page[0].example.png(None)
    (tmp_path / "a.png").write_bytes(image)
    given = ["neighbours", str(runs["images"]), str(tmp_path / "a.png"), "-k", "2"]
    assert main([*given, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["input"].endswith("a.png") and [set(one) for one in told["neighbours"]] == [
        {"row", "split", "truth", "image", "distance", "record"}
    ] * 2  # fmt: skip
    assert main(given) == 0 and told["neighbours"][0]["record"] in capsys.readouterr().out


def test_other_data_in_the_place_of_the_runs_own_are_not_taken_for_them(tmp_path):
    """For neighbours, samples, the map and what would change an answer; others that are named are, and so are any where the
    run has noted nothing."""
    run = Run(make(tmp_path / "run", "table", steps=3))
    data, row = run.path / "loans.csv", {"age": 30, "income": 20.0, "job": "clerk"}
    run.folder.note("data", {"fingerprint": run.dataset().fingerprint, "rows": 300})
    first = run.neighbours(row)
    assert Run(run.path).neighbours(row) == first
    data.write_text(data.read_text().replace(".1,", ".2,"))
    for name, asked in (
        ("neighbours", [row]),
        ("counterfactual", [row]),
        ("samples", []),
        ("map", ["train"]),
    ):
        with pytest.raises(DataError, match="data have changed") as told:
            getattr(Run(run.path), name)(*asked)
        assert str(told.value.where).endswith("loans.csv") and "data=" in told.value.expected
    with pytest.raises(DataError, match="made of have changed"):
        prepare(Run(run.path))  # as a server does
    assert Run(run.path).neighbours(row, data=data)
    run.folder.note("data", {})
    assert Run(run.path).neighbours(row)
