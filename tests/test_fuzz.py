"""A fixed thousand of the cases of `fuzzing`: success or an error of ours, whatever is read. Below them
what cases have found, and what no case can: how much memory is asked for."""

import gzip
import json
import math
import os
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from fuzzing.cases import attempt, memory_held
from fuzzing.mutations import snippets
from fuzzing.runs import make_runs
from fuzzing.targets import TARGETS, counts
from jichu.core.config import check, dump_yaml, override, parse_yaml
from jichu.core.errors import DataError, UsageError
from jichu.data.decode import Preprocess, decode_image
from jichu.data.formats import delimited
from jichu.data.load import load
from jichu.models import folder as model_folder
from jichu.recipe.checks import check_names
from jichu.recipe.config import Recipe, read_recipe
from jichu.recipe.run import execute
from jichu.runs import Run
from jichu.train import checkpoint

CASES = 1000
GIB = 4  # of address space beyond what the libraries take


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder)
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_success_or_an_error_of_ours(name, runs, tmp_path):
    function, _, seconds = TARGETS[name]
    with memory_held(GIB):
        for number in range(counts(CASES)[name]):
            # ten times the time that one case has alone: how busy a machine is, is no fault of ours
            attempt(function, name, 0, number, scratch=tmp_path, runs=runs, seconds=10 * seconds)


def test_every_odd_yaml_is_read_the_same_again_or_refused_with_its_place(tmp_path):
    refused = 0
    for text in snippets(tmp_path / "canary"):
        try:
            value = parse_yaml(f"a: {text}", "odd.yaml")
        except UsageError as error:
            assert "odd.yaml" in str(error.where) and len(str(error)) < 1000
            refused += 1
        else:
            again = parse_yaml(dump_yaml(value))
            assert again == value or repr(again) == repr(value)
    assert refused > 50 and not (tmp_path / "canary").exists()


def test_yaml_takes_anchors_and_leaves_dates_as_they_are_written():
    text = "a: &x {lr: 1e-3, day: 2020-01-01}\nb: *x\nc: [*x, *x]"
    value = {"lr": 0.001, "day": "2020-01-01"}
    assert parse_yaml(text) == {"a": value, "b": value, "c": [value, value]}


def test_a_place_in_a_list_is_given_by_plain_digits_only():
    assert override({"a": [1, 2]}, ["a.1=3"]) == {"a": [1, 3]}
    for place in ("²", "٣", "-1", "2", "9" * 5000):
        with pytest.raises(UsageError, match="no item"):
            override({"a": [1, 2]}, [f"a.{place}=3"])


def test_a_compressed_file_unpacks_to_no_more_than_memory_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "free_memory", lambda: 4_000_000)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 250_001))
    with pytest.raises(DataError, match="more than memory"):
        load(str(tmp_path / "a.csv.gz"))


def test_an_idx_file_is_unpacked_as_far_as_its_header_promises(tmp_path):
    header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="promises 2 × 4 × 4 = 32 bytes, the file holds more"):
        load(str(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_postscript_is_not_run():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="none of BMP"):
        decode_image(script, Preprocess(8, 3, "crop"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="neither a folder nor a file"):
        load(str(tmp_path / "a.csv"))


def test_a_model_larger_than_its_weights_is_refused_before_it_takes_memory(runs, tmp_path):
    shutil.copytree(runs / "runs" / "table" / "model", tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    about = json.loads(file.read_text())
    about["backbone"]["widths"] = [1_000_000, 1_000_000]  # 4 TB
    file.write_text(json.dumps(about))
    with pytest.raises(UsageError, match="do not fit"):
        model_folder.load(tmp_path / "model")


def test_a_damaged_checkpoint_is_told(tmp_path):
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, {"a": torch.ones(3)}, {"step": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="checksum"):
        checkpoint.read_tensors(path, torch.device("cpu"))
    path.write_bytes(whole[:-5])
    for read in (checkpoint.read_state, lambda p: checkpoint.read_tensors(p, torch.device("cpu"))):
        with pytest.raises(DataError, match="damaged checkpoint"):
            read(path)


def test_the_recipe_that_a_run_wrote_runs_again(runs, tmp_path):
    recipe = read_recipe(str(runs / "runs" / "table" / "recipe.yaml"))
    assert execute(recipe, runs=tmp_path).report.exists()
    head = {"stage": "finetune", "head": "logistic-regression"}
    tree = {
        **recipe.plain(),
        "stages": [type(recipe)(**{**recipe.plain(), "stages": [head]}).plain()["stages"][0]],
    }
    check_names(type(recipe)(**tree), {})


def test_what_a_recipe_gives_to_the_users_own_is_kept():
    def with_metric(metric):
        stages = [{"stage": "finetune"}, {"stage": "audit", "metrics": [metric]}]
        return check(Recipe, {"name": "a", "data": {"path": "a"}, "stages": stages})

    recipe = with_metric({"name": "mine:f", "most": math.inf})
    assert check(Recipe, parse_yaml(dump_yaml(recipe.plain()))) == recipe
    check_names(with_metric("perplexity"), {})  # none of those that can be tried
    tree = parse_yaml("{~: 1, 2: {null: 3, 0x1: 4}}")
    assert tree == {"~": 1, "2": {"null": 3, "0x1": 4}} == parse_yaml(dump_yaml(tree))


def test_what_learns_from_labels_is_refused_where_there_are_none(runs, tmp_path):
    data = str(runs / "photos")
    for stage, words in (
        ({"stage": "pretrain", "objective": "classification"}, "learns from labels"),
        ({"stage": "pretrain", "objective": "mixup"}, "goes around another objective"),
        ({"stage": "finetune", "wrap": ["multilabel"]}, "goes around no other objective"),
        ({"stage": "finetune", "objective": "causal"}, "learns from the data themselves"),
        ({"stage": "finetune", "objective": "vicreg"}, "learns from the data themselves"),
    ):
        file = tmp_path / "a.yaml"
        file.write_text(dump_yaml({"name": "a", "data": {"path": data}, "stages": [stage]}))
        with pytest.raises(UsageError, match=words):
            check_names(read_recipe(str(file)), {})


def test_half_of_a_surrogate_pair_is_no_name(runs):
    with pytest.raises(DataError, match="half of a surrogate pair"):
        load((np.zeros((4, 8, 8), np.uint8), ["a", "\ud800", "a", "b"]))
    with pytest.raises(UsageError, match="names no column"):
        Run(runs / "runs" / "table").predict({"x": 1.0, "\ud800": 2})


def test_counted_arrays_of_objects_are_no_labels(tmp_path):
    import pickle

    batch = {"labels": np.array([0, 1], np.uint8), "data": np.zeros((2, 3072), np.uint8)}
    for name, content in (("data_batch_1", batch), ("batches.meta", {"label_names": ["a", "b"]})):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="no list of labels"):
        load(str(tmp_path))


def test_a_name_too_long_for_a_file_is_no_stage_and_no_run():
    stages = [{"stage": "finetune"}, {"stage": "finetune", "name": "b", "from": "a" * 5000}]
    tree = {"name": "a", "data": {"path": "a"}, "stages": stages}
    with pytest.raises(UsageError, match="nor a run folder") as told:
        check_names(check(Recipe, tree), {})
    assert len(str(told.value)) < 1000
    with pytest.raises(UsageError, match="no trained stage") as told:
        check(Recipe, {**tree, "stages": stages[:1], "result": "a" * 70_000})
    assert len(str(told.value)) < 1000


def test_an_error_about_a_very_long_name_can_be_read(tmp_path):
    (tmp_path / "a.csv").write_text("a" * 60_000 + ",b\n" + ",\n" * 20)
    with pytest.raises(DataError, match="no column can be used") as told:
        load(str(tmp_path / "a.csv"))
    assert len(str(told.value)) < 10_000


def test_a_tokenizer_edited_by_hand_is_told(runs, tmp_path):
    for kind, edit, words in (
        ("bert", lambda model: model["vocab"].pop("[UNK]"), "Missing \\[UNK\\]"),
        ("gpt", lambda model: model["vocab"].update(much=2**31 - 1), "the model knows"),
        (
            "gpt",
            lambda model: model.update(continuing_subword_prefix="\u202e"),
            "damaged: .range end",
        ),  # a panic
    ):
        folder = shutil.copytree(runs / "runs" / kind, tmp_path / kind, dirs_exist_ok=True)
        file = folder / "model" / "tokenizer.json"
        tree = json.loads(file.read_text())
        edit(tree["model"])
        tree["added_tokens"] = [token for token in tree["added_tokens"] if token["content"] != "[UNK]"]
        file.write_text(json.dumps(tree))
        with pytest.raises(DataError, match=words):
            Run(folder).embed(["\u2028💥"])
