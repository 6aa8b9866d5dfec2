"""Columns kept aside: no model sees them, every row has them, and they are stored as the others are."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.data import load as loading
from jichu.data import store
from jichu.data.groups import crossed, folded, groups
from jichu.data.source import Column


@pytest.fixture
def people(in_folder):
    rng = np.random.default_rng(0)
    lines = ["age,sex,since,zip,note,grade"]
    for i in range(200):
        since = "" if i % 9 == 0 else f"20{10 + i % 20}-03-01 1{i % 10}:45:0{i % 10}"
        age = "" if i % 7 == 0 else str(20 + i % 40)
        sex = ("f", "m", "?")[rng.integers(3)]
        lines.append(f"{age},{sex},{since},{i % 4},some words on number {i},{'AB'[i % 3 == 0]}")
    Path("people.csv").write_text("\n".join(lines))
    return [line.split(",") for line in lines[1:]]


def cells(column):
    values = np.asarray(column.values)
    return np.array([*column.classes, None], object)[values] if column.kind == "category" else values


def test_every_row_keeps_them_and_no_model_sees_them(people, monkeypatch):
    columns = {"zip": "category", "note": "ignore"}
    monkeypatch.setattr(store, "_TICK", -(10**12))  # the file was written just now
    for _ in range(2):
        data = jichu.load("people.csv", target="grade", aside=["sex", "since", "zip", "age"], columns=columns)
        monkeypatch.setattr(loading, "read", None)  # the second start reads nothing
        assert set(data.aside) == {"sex", "since", "zip", "age"} and not data.table
        assert {"numbers", "categories"}.isdisjoint(data.tensors)
        roles = {c["name"]: c["role"] for c in data.columns}
        assert roles["sex"] == roles["since"] == "kept aside"
        assert cells(data.column("sex")).tolist() == [None if r[1] == "?" else r[1] for r in people]
        assert cells(data.column("zip")).tolist() == [r[3] for r in people]
        assert cells(data.column("grade")).tolist() == [r[5] for r in people]
        since = np.array([r[2] or "NaT" for r in people], "datetime64[s]")
        assert np.array_equal(data.column("since").values, since, equal_nan=True)
        age = [float(r[0] or "nan") for r in people]
        assert np.array_equal(data.column("age").values, age, equal_nan=True)


def test_inputs_are_told_by_the_same_name(people):
    data = jichu.load("people.csv", target="grade", columns={"note": "ignore", "zip": "category"})
    assert not data.aside and set(data.table.kinds) == {"age", "sex", "since", "zip"}
    assert cells(data.column("sex")).tolist() == [None if r[1] == "?" else r[1] for r in people]
    assert np.array_equal(data.column("age").values, [float(r[0] or "nan") for r in people], equal_nan=True)
    wanted = np.array([r[2] or "NaT" for r in people], "datetime64[s]")
    off = np.abs((data.column("since").values - wanted)[~np.isnat(wanted)].astype(int))
    assert off.max() <= 90 and (np.isnat(data.column("since").values) == np.isnat(wanted)).all()
    with pytest.raises(UsageError, match="did you mean: sex"):
        data.column("sexx")


def test_beside_images_and_broken_ones(in_folder):
    rng, lines = np.random.default_rng(0), ["file,label,camera"]
    for i in range(30):
        pixels = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]},{'xyz'[i % 3]}")
    Path("4.png").write_text("no picture")
    Path("list.csv").write_text("\n".join(lines))
    data = jichu.load("list.csv", aside=["camera"])
    assert len(data.quarantine) == 1 and not data.table and data.kind == "image"
    assert cells(data.column("camera")).tolist() == [("xyz"[i % 3]) for i in range(30) if i != 4]


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"aside": ["sax"]}, UsageError, "did you mean: sex"),
        ({"aside": ["grade"]}, UsageError, "another part"),
        ({"aside": ["note"]}, DataError, "note: category"),
        ({"aside": ["sex"], "series": {}}, UsageError, "aside does nothing with series"),
    ],
)
def test_what_cannot_be_kept_is_told(config, error, said, people):
    with pytest.raises(error, match=said):
        jichu.load("people.csv", target="grade", **config)


def test_a_run_is_used_without_them(people, in_folder):
    recipe = {"name": "r", "data": {"path": "people.csv", "target": "grade", "aside": ["sex"]},
              "stages": [{"stage": "finetune", "head": "logistic-regression"}, {"stage": "audit"}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    lines = Path("people.csv").read_text().splitlines()
    Path("other.csv").write_text(
        "\n".join(",".join(c for j, c in enumerate(x.split(",")) if j != 1) for x in lines)
    )
    assert jichu.audit("runs/r", "other.csv")["models"]["r"]["rows"] == 200
    assert jichu.open("runs/r").dataset().column("sex").classes == ("f", "m")


def test_groups_of_numbers_are_of_as_many_rows_and_cells_that_are_empty_one_more():
    values = np.r_[np.arange(80.0), [np.nan] * 5]
    found = groups(Column("number", values), bins=4)
    assert np.bincount(found.codes).tolist() == [20, 20, 20, 20, 5] and found.cut
    assert found.names == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "not known"]
    few = groups(Column("number", np.array([0.0, 1, 1, 2])))
    assert few.names == ["0", "1", "2"] and not few.cut
    days = groups(Column("timestamp", np.datetime64("2030-01-01", "s") + np.arange(40) * 86400), bins=2)
    assert days.names == ["2030-01-01 to 2030-01-20", "2030-01-21 to 2030-02-09"]


def test_groups_are_crossed_and_the_rarest_are_one():
    one = groups(Column("category", np.array([0, 0, 1, 1, -1]), ("a", "b")))
    two = groups(Column("category", np.array([0, 1, 1, 1, 1]), ("x", "y", "z")))
    both = crossed([one, two])
    assert [both.names[c] for c in both.codes] == ["a × x", "a × y", "b × y", "b × y", "not known × y"]
    some = folded(both, np.arange(5), 2)
    assert some.names == ["a × x", "b × y", "2 others"] and some.codes.tolist() == [0, 2, 1, 1, 2]


def test_beside_texts(in_folder):
    rows = [
        f"some words on number {i} and {'good' if i % 2 else 'bad'} ones,{'ab'[i % 2]},{20 + i}"
        for i in range(40)
    ]
    Path("t.csv").write_text("\n".join(["text,label,age", *rows]))
    data = jichu.load("t.csv", target="label", aside=["age"])
    assert data.kind == "text" and data.column("age").values.tolist() == [20.0 + i for i in range(40)]
