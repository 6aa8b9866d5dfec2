"""Configuration, durations, files, randomness, names."""

import json
import os
import platform

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jichu.core.config import Spec, check, override, parse_yaml
from jichu.core.durations import Duration
from jichu.core.errors import UsageError, nearest
from jichu.core.files import append_jsonl, dumps, read_jsonl, replacing, write_text
from jichu.core.names import construct
from jichu.core.randomness import derive, guarded, row_uniform, seed_step
from jichu.models import BACKBONES
from jichu.recipe.config import Recipe, read_recipe

QUICK = {"name": "q", "data": {"path": "x"}, "stages": [{"stage": "pretrain"}]}


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("10m", 600, "seconds"), ("90s", 90, "seconds"), ("1.5h", 5400, "seconds"), ("3 epochs", 3, "epochs"),
     ("1 epoch", 1, "epochs"), ("2000 steps", 2000, "steps"), ("50M tokens", 5e7, "tokens"), ("2k steps", 2000, "steps")],
)  # fmt: skip
def test_durations(text, value, unit):
    assert Duration.parse(text) == (value, unit)


@pytest.mark.parametrize(
    "text", ["", "10", "ten steps", "-1s", "0 steps", "3 epoch s", "1e3 steps", "10 M tokens x"]
)
def test_durations_that_are_none(text):
    with pytest.raises(UsageError):
        Duration.parse(text)


def test_durations_become_steps():
    assert Duration.parse("3 epochs").steps(steps_per_epoch=7) == 21
    assert Duration.parse("0.5 epochs").steps(steps_per_epoch=7) == 3
    assert Duration.parse("1m").steps(steps_per_epoch=7, seconds_per_step=0.1) == 600
    assert Duration.parse("1s").steps(steps_per_epoch=7, seconds_per_step=10) == 1
    with pytest.raises(UsageError, match="tokens"):
        Duration.parse("50M tokens").steps(steps_per_epoch=7)


def fault(tree, cls=Recipe):
    with pytest.raises(UsageError) as caught:
        check(cls, tree, where="r.yaml")
    return caught.value


def changed(path, value):
    tree = json.loads(json.dumps(QUICK))
    *keys, last = path
    node = tree
    for key in keys:
        node = node[key]
    node[last] = value
    return tree


@pytest.mark.parametrize(
    ("tree", "where", "said", "near"),
    [
        (changed(["sead"], 1), "r.yaml:sead", "unknown key 'sead'", "seed"),
        (changed(["stages", 0, "budgit"], "3 epochs"), "r.yaml:stages.0.budgit", "unknown key", "budget"),
        (changed(["stages", 0, "optimizer"], {"rl": 1}), "r.yaml:stages.0.optimizer.rl", "unknown key", "lr"),
        (changed(["stages", 0, "batch_size"], "64"), "r.yaml:stages.0.batch_size", "'64'", None),
        (changed(["stages", 0, "batch_size"], 0), "r.yaml:stages.0.batch_size", "found 0", None),
        (changed(["stages", 0, "stage"], "pretrian"), "r.yaml:stages.0.stage", "'pretrian'", "pretrain"),
        (changed(["stages", 0, "schedule"], "cosin"), "r.yaml:stages.0.schedule", "'cosin'", "cosine"),
        (changed(["stages", 0, "budget"], "3"), "r.yaml:stages.0.budget", "not a duration", None),
        (changed(["stages", 0, "budget"], 3), "r.yaml:stages.0.budget", "needs a unit", None),
        (changed(["stages"], []), "r.yaml:stages", "found []", None),
        (
            changed(["data", "split"], {"test": 0.7, "validation": 0.5}),
            "r.yaml:data.split",
            "nothing to train",
            None,
        ),
        (changed(["data", "split"], {"tset": 0.7}), "r.yaml:data.split.tset", "unknown key", "test"),
        (
            changed(["stages", 0, "augment"], {"scale": [2.0, 1.0]}),
            "r.yaml:stages.0.augment",
            "smallest",
            None,
        ),
        (changed(["seed"], -1), "r.yaml:seed", "-1", None),
    ],
)
def test_faults_name_key_value_and_cure(tree, where, said, near):
    error = fault(tree)
    assert str(error.where) == where
    assert said in str(error)
    assert error.nearest == near
    assert error.code == 2


def test_all_faults_are_told_at_once():
    tree = changed(["sead"], 1) | {"seed": "x"}
    error = fault(tree)
    assert "2 faults" in error.what and "sead" in error.what and "seed" in error.what


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"stage": "pretrain"}, {"stage": "pretrain"}], "two stages are named 'pretrain'"),
        ([{"stage": "finetune", "from": "a", "backbone": "cnn"}], "expected one of them"),
        ([{"stage": "finetune"}, {"stage": "audit", "gain": ["finetune", "scratch"]}], "no finetune stage is named 'scratch'"),
        ([{"stage": "finetune", "adapt": [["a", 1, 2]]}], "not a pair"),
        ([{"stage": "audit"}, {"stage": "finetune"}], "nothing to measure"),
    ],
)  # fmt: skip
def test_stages_must_fit_together(stages, said):
    assert said in str(fault({**QUICK, "stages": stages}))


def test_a_key_given_twice_is_an_error():
    with pytest.raises(UsageError, match=r"'a' is given twice(.|\n)*r.yaml:2"):
        parse_yaml("a: 1\na: 2\n", "r.yaml")
    with pytest.raises(UsageError, match=r"r.yaml:2"):
        parse_yaml("a: 1\n b: [\n", "r.yaml")


def test_overrides():
    tree = {"objective": "vicreg", "stages": [{"stage": "pretrain"}, {"stage": "finetune", "name": "x"}]}
    override(
        tree,
        [
            "objective.width=3",
            "stages.x.budget=3 epochs",
            "stages.0.batch_size=8",
            "data.size=32",
            "stages.pretrain.clip=null",
        ],
    )
    assert tree["objective"] == {"name": "vicreg", "width": 3}
    assert tree["stages"][1]["budget"] == "3 epochs"
    assert tree["stages"][0] == {"stage": "pretrain", "batch_size": 8, "clip": None}
    assert tree["data"] == {"size": 32}
    for wrong in ("stages.y.budget=1", "nothing", "=3"):
        with pytest.raises(UsageError):
            override(tree, [wrong])


def test_recipes_resolve_to_what_they_say():
    recipe = read_recipe("quickstart", ["stages.pretrain.budget=3 epochs"])
    assert check(Recipe, recipe.plain()) == recipe


def test_names_and_arguments_are_checked():
    build = construct("backbone", Spec(name="cnn", widths=[4]), BACKBONES, channels=1, size=8)
    assert build().width == 4
    for spec, near in ((Spec(name="resnet81"), "resnet18"), (Spec(name="cnn", width=[4]), "widths")):
        with pytest.raises(UsageError) as caught:
            construct("backbone", spec, BACKBONES, channels=1, size=8)
        assert caught.value.nearest == near
    with pytest.raises(UsageError, match="widths"):
        construct("backbone", Spec(name="cnn", widths="many"), BACKBONES, channels=1, size=8)
    with pytest.raises(UsageError, match="no module"):
        construct("backbone", Spec(name="not_there:Net"), BACKBONES)
    with pytest.raises(UsageError, match="Cnn"):
        construct("backbone", Spec(name="jichu.models.cnn:Cmn"), BACKBONES)


def test_nearest():
    assert nearest("resnet81", BACKBONES) == "resnet18"
    assert nearest("zzzz", BACKBONES) is None


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["b.txt"]


def test_what_killed_processes_left_beside_a_file_is_removed(tmp_path):
    ended = 2**22 + 1  # which no process can be
    path = tmp_path / "kept.json"
    left, alive, other = (
        tmp_path / f".{name}.{platform.node()}.{process}.abcd1234"
        for name, process in (("kept.json", ended), ("kept.json", os.getpid()), ("else.json", ended))
    )
    for file in (left, alive, other):
        file.touch()
    write_text(path, "whole")
    assert not left.exists() and alive.exists() and other.exists() and path.read_text() == "whole"


def test_jsonl_leaves_out_a_half_written_line(tmp_path):
    path = tmp_path / "x.jsonl"
    append_jsonl(path, [{"a": 1}, {"a": float("nan")}])
    with open(path, "a") as file:
        file.write('{"a": 3')
    assert read_jsonl(path) == [{"a": 1}, {"a": None}]


def test_json_takes_arrays():
    assert json.loads(dumps({"x": np.float32(0.5), "y": torch.ones(2), 3: (1, float("inf"))})) == {
        "x": 0.5, "y": [1, 1], "3": [1, None],
    }  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True), st.integers(0, 2**31))
def test_row_numbers_depend_on_the_row_alone(rows, seed):
    rows = torch.tensor(rows)
    whole = row_uniform(rows, 5, seed, "x")
    assert ((whole >= 0) & (whole < 1)).all()
    assert torch.equal(row_uniform(rows.flip(0), 5, seed, "x").flip(0), whole)
    assert torch.equal(row_uniform(rows[:1], 5, seed, "x"), whole[:1])


def test_row_numbers_are_uniform_and_independent():
    u = row_uniform(torch.arange(20_000), 4, 0, "x").numpy()
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    neighbours = np.stack(
        [u[:-1, 0], u[1:, 0], u[:-1, 1], row_uniform(torch.arange(19_999), 1, 1, "x").numpy()[:, 0]]
    )
    assert np.abs(np.corrcoef(neighbours) - np.eye(4)).max() < 0.03


def test_seeds_differ_by_key_and_leave_the_process_alone():
    assert len({derive(0, "a"), derive(0, "b"), derive(1, "a")}) == 3
    state = torch.get_rng_state()
    with guarded(torch.device("cpu")):
        seed_step(torch.device("cpu"), 1)
        first = torch.rand(3)
        seed_step(torch.device("cpu"), 1)
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (changed(["stages", 0, "optimizer"], "adam"), "found 'adam'"),
        (changed(["data"], "photos"), "found 'photos'"),
        (changed(["stages", 0, "name"], "../../evil"), "../../evil"),
        (changed(["stages", 0, "name"], "a/0"), "a/0"),
        (changed(["name"], "x" * 300), "xxx"),
        (changed(["data", "path"], ""), "''"),
        (changed(["data", "draws"], 3), "draws without labels_per_class"),
        (changed(["stages", 0, "optimizer"], {"lr": float("inf")}), "inf"),
    ],
)
def test_more_faults(tree, said):
    assert said in str(fault(tree))


def test_numbers_as_people_write_them():
    assert parse_yaml("{a: 1e-3, b: 1E5, c: 2.5e+2, d: 1e, e: 3}") == {
        "a": 1e-3,
        "b": 1e5,
        "c": 250.0,
        "d": "1e",
        "e": 3,
    }
    with pytest.raises(UsageError, match="a key that is a list"):
        parse_yaml("? [1, 2]\n: 3")


@pytest.mark.parametrize("name", [":b", ".x:y", "x:", "json:nothing"])
def test_import_paths_that_lead_nowhere(name):
    with pytest.raises(UsageError):
        construct("backbone", Spec(name=name), BACKBONES)


def test_arguments_keep_their_bounds():
    for spec in (Spec(name="cnn", widths=[]), Spec(name="cnn", widths=[0]), Spec(name="mlp", dropout=1.5)):
        with pytest.raises(UsageError):
            construct("backbone", spec, BACKBONES, channels=1, size=8)
