"""Slices: what was put in is found, what is not there is not, and the figures are those of a plain sum."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import jichu
from jichu.cli.main import main
from jichu.core.errors import UsageError
from jichu.core.files import read_json
from jichu.data.conditions import holds
from jichu.data.source import Column
from jichu.data.traits import traits
from jichu.metrics.slices import against_rest, by_chance, worst


def noise(rows=2000, seed=0):
    """Errors of one row in five, and candidates that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    errors = (rng.random(rows) < 0.2).astype(float)
    codes = rng.integers(4, size=(rows, 5))
    return errors, np.concatenate([codes[:, [c]] == np.arange(4) for c in range(5)], 1), rng


def test_what_was_put_in_is_found_first():
    errors, members, rng = noise()
    bad = members[:, 2] & members[:, 9]
    errors[bad] = rng.random(bad.sum()) < 0.7
    assert worst(errors, members, 3, 30)[0] == (2, 9)
    errors[members[:, 13]] = rng.random(members[:, 13].sum()) < 0.6
    assert worst(errors, members, 1, 30) == [
        (13,)
    ]  # alone: no pair is worse than both of its parts by more than chance


def test_the_same_rows_are_told_once():
    errors, members, _ = noise()
    errors[members[:, 0]] = 1
    found = worst(errors, np.concatenate([members, members[:, :1]], 1), 5, 30)
    assert found[0] == (0,) and (20,) not in found


def test_small_slices_and_good_ones_are_left_out():
    errors, members, _ = noise()
    few = np.zeros((2000, 1), bool)
    few[:10] = True
    errors[:10] = 1
    for place in worst(errors, np.concatenate([members, few], 1), 50, 30):
        mine = np.logical_and.reduce([members[:, i] for i in place])
        assert mine.sum() >= 30 and errors[mine].mean() > errors[~mine].mean()


def test_of_noise_little_is_told():
    """What is found on one half and measured on the other is chance about as seldom as is promised."""
    false = 0
    for seed in range(40):
        errors, members, _ = noise(800, seed)
        places = worst(errors[:400], members[:400], 8, 25)
        slices = np.stack([np.logical_and.reduce([members[400:, i] for i in p]) for p in places], 1)
        false += (by_chance(errors[400:], slices) <= 0.05).any()
    assert (
        false <= 6
    )  # 2 are expected; had they been measured where they were found it would be nearly all of them


def test_means_and_tests_are_the_plain_ones():
    errors, members, rng = noise(500)
    draws = np.stack([errors, rng.random(500)])
    for mine, (inside, above) in zip(members.T, against_rest(draws, members), strict=True):
        assert inside.value == pytest.approx(draws[:, mine].mean())
        assert above.value == pytest.approx(draws[:, mine].mean() - draws[:, ~mine].mean())
        assert above.low < above.value < above.high
    p = [
        stats.ttest_ind(draws[1, m], draws[1, ~m], equal_var=False, alternative="greater").pvalue
        for m in members.T
    ]
    assert by_chance(draws[1], members) == pytest.approx(stats.false_discovery_control(p))
    assert by_chance(np.ones(500), members[:, :1]).tolist() == [1]  # all are wrong


@pytest.fixture
def columns():
    return {
        "age": Column("number", np.array([10.0, 60, 70, np.nan])),
        "the sex": Column("category", np.array([0, 1, 1, -1]), ("f", "m")),
        "day": Column(
            "timestamp", np.array(["2030-01-01", "2030-02-01", "NaT", "2031-01-01"], "datetime64[s]")
        ),
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("age >= 60", [1, 2]),
        ("age>=60 and the sex == m", [1, 2]),
        ("age != 60", [0, 2]),
        ("the sex = 'f'", [0]),
        ("the sex != m", [0]),
        ("the sex != m or the sex = not known", [0, 3]),
        ("the sex == not known", [3]),
        ("day > 2030-01-15", [1, 3]),
        ("day <= 2030-02-01 and age < 20", [0]),
    ],
)
def test_conditions(text, rows, columns):
    assert np.flatnonzero(holds(text, columns, "")).tolist() == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age", "no condition"),
        ("agee > 5", "did you mean: age"),
        ("age > five", "a number"),
        ("day > noon", "a time"),
        ("the sex > f", "no order"),
        ("the sex == female", "unknown category"),
        ("age > 5 and", "found the end at character 12"),
        ("age > 5 age", "no condition|a number"),
        ("(" * 99, "inside 50 others"),
        ("age > inf", "a number"),
    ],
)
def test_what_is_no_condition_is_told(text, said, columns):
    with pytest.raises(UsageError, match=said):
        holds(text, columns, "")


def test_an_audit_finds_where_it_is_worst(in_folder, capsys):
    """A label that follows a number, but for one group of one town, where it is a coin."""
    rng = np.random.default_rng(0)
    lines = ["x,sex,town,label"]
    for i in range(3000):
        x, sex, town = rng.normal(), "fm"[i % 2], "abc"[i // 2 % 3]
        yes = rng.random() < 0.5 if (sex, town) == ("f", "b") else x > 0
        lines.append(f"{x:.4f},{sex},{town},{('no', 'yes')[int(yes)]}")
    Path("t.csv").write_text("\n".join(lines))
    part = {"name": "slices", "where": ["x > 1 and sex == m"], "by": ["town"]}
    recipe = {"name": "r", "data": {"path": "t.csv", "aside": ["sex"], "split": {"test": 0.5}},
              "stages": [{"stage": "finetune", "head": "logistic-regression"}, {"stage": "audit", "parts": [part]}]}  # fmt: skip
    Path("r.yaml").write_text(json.dumps(recipe))
    assert main(["run", "r.yaml", "--quiet"]) == 0
    found = read_json(Path("runs/r/audit.json"))["parts"]["slices"]["models"]["finetune"]
    first = found["found"][0]
    assert set(first["slice"].split(" and ")) == {"sex = f", "town = b"} and first["q"] < 1e-6
    assert 0.4 < first["error"]["value"] < 0.6 and first["above"]["low"] > 0.3
    assert [s["slice"] for s in found["given"]] == ["x > 1 and sex == m", "town = a", "town = b", "town = c"]
    assert found["given"][2]["q"] < 1e-6 < found["given"][0]["q"]
    page = Path("runs/r/report.html").read_text()
    assert "Where is it worst?" in page and "slice that was found" in page
    capsys.readouterr()
    for wrong, said in (({"where": ["sexx == f"]}, "did you mean: sex"), ({"by": ["towns"]}, "did you mean: town"),
                        ({"where": ["sex == g"]}, "unknown category")):  # fmt: skip
        Path("r.yaml").write_text(
            json.dumps(
                recipe
                | {
                    "stages": [
                        recipe["stages"][0],
                        {"stage": "audit", "parts": [{"name": "slices", **wrong}]},
                    ]
                }
            )
        )
        assert main(["run", "r.yaml", "--quiet"]) == 2 and said in capsys.readouterr().err


def test_pictures_have_brightness(in_folder, digits):
    images, labels = digits
    data = jichu.load((images, labels))
    rows = torch.arange(len(data))
    found = traits(data, rows)
    pixels = data.tensors["image"][rows].numpy().astype(float).reshape(len(rows), -1)
    assert found["brightness"].values == pytest.approx(pixels.mean(1), rel=1e-5)
    assert found["contrast"].values == pytest.approx(pixels.std(1), rel=1e-4)
    run = jichu.finetune("pixels", data, head="logistic-regression", name="d")
    told = jichu.audit(run, data, parts=[{"name": "slices", "where": ["brightness < 70"], "least": 20}])[
        "parts"
    ]["slices"]
    assert told["columns"] == 2 and told["models"]["d"]["given"][0]["rows"] == (pixels.mean(1) < 70).sum()


def test_chance_is_that_of_fishers_exact_test():
    """Also where all rows of a slice are wrong, and no other."""
    errors = np.r_[np.ones(2), np.zeros(90), np.ones(10)]
    members = np.zeros((102, 2), bool)
    members[:2, 0], members[:50, 1] = True, True
    table = [[[2, 0], [10, 90]], [[2, 48], [10, 42]]]
    wanted = stats.false_discovery_control([stats.fisher_exact(t, "greater").pvalue for t in table])
    assert np.allclose(by_chance(errors, members), wanted)
    clear = np.r_[np.ones(50), np.zeros(50)]
    assert by_chance(clear, (clear == 1)[:, None])[0] < 1e-20
    assert by_chance(np.r_[5.0, 5.5, np.zeros(50)], (np.arange(52) < 2)[:, None])[0] == 1  # too few to tell
