"""Graphs of fewer bits: the numbers in them, what they say, what they lose, and which layers are to blame."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import jichu
from exporting import CASES, batch_of, subject
from jichu.cli.main import main
from jichu.core.config import Spec
from jichu.core.errors import CheckFailed, DataError, UsageError
from jichu.data.target import Target
from jichu.metrics import metric
from jichu.models.ranges import seen
from jichu.ship.export.onnx_file import Onnx
from jichu.ship.onnx_model import ask, session
from jichu.ship.quantize import QUANTIZATIONS
from jichu.ship.quantize.base import prepared, quantize
from jichu.ship.quantize.graph import rounded
from jichu.ship.quantize.sensitivity import decibels, ranked
from jichu.ship.scores import Held, compare

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _without_traces():
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


def graph_of(case, place):
    """A small model as a graph, and real rows for it."""
    of = subject(CASES[case])
    path = place / "model.onnx"
    Onnx().write(of, path)

    def rows(count):
        generator = torch.Generator().manual_seed(1)
        batch = batch_of(of.config, 16, generator)
        for _ in range(0, count, 16):
            yield {name: values.numpy() for name, values in batch.items()}

    return path, rows


# --- the numbers


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 3)),
                     elements=st.floats(-1e4, 1e4, width=32)), st.integers(0, 2))  # fmt: skip
def test_what_is_rounded_is_half_a_step_away_at_most(weight, axis):
    values, scales = rounded(weight, axis)
    shape = [-1 if i == axis else 1 for i in range(3)]
    steps = scales.reshape(shape)
    assert values.dtype == np.int8 and np.abs(values.astype(int)).max() <= 127 and (scales > 0).all()
    assert (np.abs(values * steps - weight) <= steps * np.float32(0.5 + 1e-4)).all()


def test_channels_that_are_all_zeros_stay_so():
    values, scales = rounded(np.zeros((2, 3), np.float32), 0)
    assert not values.any() and np.isfinite(scales).all()


def test_weights_of_convolutions_have_a_scale_for_each_channel(tmp_path):
    """Beside numpy: w ≈ scale × q, scale = max |w| / 127 of a channel, after the batch norm has gone into it."""
    path, rows = graph_of("cnn", tmp_path)
    for name in ("int8-weights", "int8-static"):
        with prepared(path) as made:
            quantize(made, Spec(name=name), tmp_path / "q.onnx", rows)
            float32 = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(made.path).graph.initializer}
        graph = onnx.load(tmp_path / "q.onnx").graph
        held = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        convolutions = [n for n in graph.node if n.op_type == "Conv"]
        assert convolutions
        makers = {node.output[0]: node for node in graph.node}
        for node in convolutions:
            dequantize = makers[node.input[1]]
            values, scales = (held[given] for given in dequantize.input[:2])
            name = next(n for n in float32 if dequantize.input[0] in (f"{n}_q", f"{n}_quantized"))
            weight = float32[name]
            np.testing.assert_allclose(scales, np.abs(weight).max((1, 2, 3)) / 127, rtol=1e-2)
            np.testing.assert_array_equal(values, np.rint(weight / scales.reshape(-1, 1, 1, 1)))


def test_matrices_of_4_bits_are_what_their_blocks_say(tmp_path):
    """The product that ONNX Runtime computes, beside numpy's of the weights unpacked."""
    path, rows = graph_of("mlp", tmp_path)
    with prepared(path) as made:
        quantize(made, Spec(name="int4-weights", block=16), tmp_path / "q.onnx", rows)
    graph = onnx.load(tmp_path / "q.onnx")
    held = {i.name: onnx.numpy_helper.to_array(i) for i in graph.graph.initializer}
    node = next(n for n in graph.graph.node if n.op_type == "MatMulNBits")
    about = {a.name: a.i for a in node.attribute}
    assert about["bits"] == 4 and about["block_size"] == 16
    packed, scales = held[node.input[1]], held[node.input[2]].reshape(about["N"], -1)
    nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(about["N"], -1, 16).astype(np.float64) - 8
    weight = (nibbles * scales[..., None]).reshape(about["N"], -1)[:, : about["K"]].T
    graph.graph.output.extend([onnx.ValueInfoProto(name=n) for n in (node.input[0], node.output[0])])
    found = ask(session(graph.SerializeToString()), next(iter(rows(16))))
    expected = found[node.input[0]] @ weight
    assert decibels(expected, found[node.output[0]]) > 35  # the rows are rounded to 8 bits there


KINDS = ["cnn", "resnet18", "convnext", "vit", "mlp", "ft-transformer", "bert", "gpt", "llama", "t5",
         "lstm-text", "gru-text", "rnn-text", "wav2vec2", "patchtst", "pictured series", "pixels", "two targets"]  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_every_kind_of_network_says_nearly_the_same_in_fewer_bits(case, tmp_path):
    path, rows = graph_of(case, tmp_path)
    batch = next(iter(rows(16)))
    expected = ask(session(path), batch)
    about = {e.key: e.value for e in onnx.load(path).metadata_props}
    with prepared(path) as made:
        for name in QUANTIZATIONS:
            quantize(made, Spec(name=name), tmp_path / "q.onnx", rows)
            found = ask(session(tmp_path / "q.onnx"), batch)
            assert list(found) == list(expected)
            for key, values in expected.items():
                assert found[key].dtype == values.dtype and found[key].shape == values.shape
                assert decibels(values, found[key]) > (10 if "int4" in name else 20), (name, key)
            graph = onnx.load(tmp_path / "q.onnx")
            told = {e.key: e.value for e in graph.metadata_props}
            assert json.loads(told.pop("jichu.quantized"))["name"] == name and told == about
            left = [i.name for i in graph.graph.initializer if i.data_type == 1 and len(i.dims) > 1]
            read = {
                n
                for node in graph.graph.node
                if node.op_type in ("Conv", "MatMul", "Gemm")
                for n in node.input
            }
            big = [i for i in graph.graph.initializer if i.name in read & set(left) and np.prod(i.dims) >= 64]
            assert not big, name  # no matrix of float32 is left
            assert str(tmp_path).encode() not in (tmp_path / "q.onnx").read_bytes()


def test_arguments_change_the_graph(tmp_path):
    path, rows = graph_of("cnn", tmp_path)
    made = {}
    with prepared(path) as ready:
        for key, spec in {
            "minmax": Spec(name="int8-static"), "percentile": Spec(name="int8-static", calibration="percentile", percentile=90.0),
            "entropy": Spec(name="int8-static", calibration="entropy"), "seven": Spec(name="int8-static", reduce_range=True),
        }.items():  # fmt: skip
            quantize(ready, spec, tmp_path / "q.onnx", rows)
            graph = onnx.load(tmp_path / "q.onnx").graph
            made[key] = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    weights = [n for n, v in made["minmax"].items() if v.dtype == np.int8 and v.ndim == 4]
    assert max(np.abs(made["seven"][n].astype(int)).max() for n in weights) <= 64
    assert max(np.abs(made["minmax"][n].astype(int)).max() for n in weights) >= 127
    scale = next(n for n in made["minmax"] if n.startswith("relu") and n.endswith("_scale"))
    assert made["percentile"][scale] < made["minmax"][scale]  # what is rare is cut off
    assert made["entropy"][scale] <= made["minmax"][scale]


# --- layers


def test_layers_that_are_kept_stay_as_they_are(tmp_path):
    path, rows = graph_of("resnet18", tmp_path)
    with prepared(path) as made:
        for name in QUANTIZATIONS:
            sizes = []
            for keep in ([], ["backbone.layer4"], ["backbone.layer4", "heads"]):
                quantize(made, Spec(name=name), tmp_path / "q.onnx", rows, keep)
                graph = onnx.load(tmp_path / "q.onnx")
                told = next(e.value for e in graph.metadata_props if e.key == "jichu.quantized")
                assert json.loads(told)["keep"] == sorted(keep)
                held = {i.name for i in graph.graph.initializer if i.data_type == 1 and np.prod(i.dims) >= 64}
                float32 = [n for n in graph.graph.node if n.op_type == "Conv" and n.input[1] in held]
                assert len(float32) == (5 if keep else 0)  # two blocks of two, and the shortcut
                sizes.append((tmp_path / "q.onnx").stat().st_size)
            assert sizes[0] < sizes[1]
        with pytest.raises(
            UsageError, match=r"(?s)unknown layer 'backbone.layer5'.*did you mean: backbone.layer"
        ):
            quantize(made, Spec(name="int8-static"), tmp_path / "q.onnx", rows, ["backbone.layer5"])
        with pytest.raises(UsageError, match="no layer is left"):
            quantize(made, Spec(name="int8-static"), tmp_path / "q.onnx", rows, ["backbone", "heads"])


def test_the_layer_that_loses_most_is_found(tmp_path):
    """One whose weights of a channel are far apart, so that the small ones are rounded to nothing."""
    of = subject(CASES["cnn"])
    weight = of.model.backbone.blocks[1][0].weight
    with torch.no_grad():
        weight[:, 0, 0, 0] += 300 * weight.abs().max()
    Onnx().write(of, tmp_path / "model.onnx")
    batch = {n: v.numpy() for n, v in batch_of(of.config, 16, torch.Generator().manual_seed(1)).items()}
    with prepared(tmp_path / "model.onnx") as made:
        order = ranked(made, Spec(name="int8-weights"), lambda count: [batch])
        rest = ranked(made, Spec(name="int8-weights"), lambda count: [batch], ["backbone.blocks.1"])
    assert order[0][0] == "backbone.blocks.1.0" and order[0][1] < order[1][1]
    assert "backbone.blocks.1.0" not in dict(rest) and len(rest) == len(order) - 1


def test_decibels():
    assert decibels(np.array([10.0]), np.array([9.0])) == pytest.approx(20)
    assert decibels(np.ones(3), np.ones(3)) == np.inf


def test_a_graph_of_nothing_but_trees_is_refused(tmp_path):
    path, _ = graph_of("cells", tmp_path)
    with pytest.raises(UsageError, match=r"(?s)no.* weights.*made of .*Gather.*Conv, "), prepared(path):
        pass


# --- what is lost

CLASSES = Target("kind", "classification", ("a", "b"))


def held_of(target, name, truth):
    return Held([], "label", target, np.array(truth), name, metric(name))


def test_points_are_hundredths_of_a_share_and_per_cent_of_a_loss():
    shares = held_of(CLASSES, "accuracy", [0, 0, 1, 1])
    right, worse = np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2), np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]])
    found = compare(shares, right, worse)
    assert found.lost.value == pytest.approx(25) and found.lost.low <= 25 <= found.lost.high
    assert (found.before.value, found.after.value, found.changed) == (1, 0.75, 0.25)
    error = held_of(Target("n", "regression"), "rmse", [0.0, 0.0])
    found = compare(error, np.array([[1.0], [1.0]]), np.array([[1.5], [1.5]]))
    assert found.lost.value == pytest.approx(50) and found.changed is None  # half as much again
    better = compare(error, np.array([[1.0], [1.0]]), np.array([[0.5], [0.5]]))
    assert better.lost.value == pytest.approx(-50)


def test_of_quantiles_the_prediction_counts_and_of_forecasts_deviations():
    target = Target("n", "regression", quantiles=(0.1, 0.5, 0.9))
    found = held_of(target, "mae", [1.0, 2.0]).score(np.array([[0.0, 1.0, 9.0], [0.0, 4.0, 9.0]]))
    assert found.value == pytest.approx(1)
    target = Target("p", "forecast", series=("p",), steps=2, means=(30.0,), stds=(2.0,))
    found = held_of(target, "scaled_mse", [[0.0, 0.0]]).score(np.array([[32.0, 34.0]]))
    assert found.value == pytest.approx((1 + 4) / 2)


def test_tags_that_change_are_counted():
    tags = held_of(Target("t", "multilabel", ("x", "y")), "micro_f1", [[0, 1], [1, 1]])
    assert tags.changed(np.array([[0.1, 0.9], [0.9, 0.9]]), np.array([[0.6, 0.9], [0.8, 0.7]])) == 0.5


def test_a_metric_that_says_nothing_is_refused():
    """AUROC of rows that are all of one class."""
    with pytest.raises(DataError, match=r"auroc says nothing of 2 held-out rows"):
        held_of(CLASSES, "auroc", [0, 0]).score(np.array([[0.9, 0.1], [0.8, 0.2]]))


# --- through the command line


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("quantized")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run(
            "finetune",
            "sklearn:digits",
            "--backbone",
            "cnn",
            "--budget",
            "120 steps",
            "--name",
            "digits",
            "--quiet",
        )
        Path("said.csv").write_text("\n".join(["text", *(f"words on number {i}" for i in range(60))]))
        run("pretrain", "said.csv", "--name", "gpt", "--budget", "2 steps", "--backbone",
            "{name: gpt, width: 32, depth: 1, heads: 2}", "--set", "data.text=text", "--set", "data.context=8",
            "--set", "data.tokenizer={name: bpe, vocabulary: 300}", "--quiet")  # fmt: skip
    return place


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_a_run_becomes_a_smaller_graph_that_says_the_same(name, place, capsys):
    run("export", "runs/digits", "--quantize", name, "--json")
    told = json.loads(capsys.readouterr().out)
    path = Path(f"runs/digits/export/model-{name}.onnx")
    assert told["path"] == str(path) and told["bytes"] == path.stat().st_size
    assert told["quantized"]["metric"] == "accuracy" and told["quantized"]["lost"]["value"] <= 1
    run("export", "runs/digits", "--output", "digits.onnx")
    assert path.stat().st_size < 0.45 * Path("digits.onnx").stat().st_size
    digits = sorted(map(str, Path("runs/digits/examples").glob("*.png")))
    ours, theirs = jichu.open("runs/digits").predict(digits), jichu.open(str(path)).predict(digits)
    assert np.mean([a["label"] == b["label"] for a, b in zip(ours, theirs, strict=True)]) > 0.8
    assert jichu.open(str(path)).signature.quantized["name"] == name
    code = (
        "import sys, jichu.cli.main as m; assert not m.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", path, digits[0]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run("export", "runs/digits", "--quantize", name, "--overwrite")
    assert "points lost" in capsys.readouterr().out


class Spoiling:
    """A scheme that makes one layer's weights nothing, unless it is kept."""

    def __call__(self, given, to, skipped, rows):
        model = onnx.load(given.path)
        node = [n for n in model.graph.node if n.op_type == "Conv"][1]
        if node.name not in skipped:
            held = next(i for i in model.graph.initializer if i.name == node.input[1])
            held.CopyFrom(onnx.numpy_helper.from_array(np.zeros(held.dims, np.float32), held.name))
        onnx.save(model, to)


def test_what_loses_too_much_is_refused_with_the_layer_to_blame(place, monkeypatch, capsys):
    monkeypatch.setitem(QUANTIZATIONS, "int8-static", "test_quantize:Spoiling")
    run("export", "runs/digits", "--quantize", "int8-static", code=4)
    error = capsys.readouterr().err
    assert "int8-static loses" in error and "lose most: backbone.blocks.1.0 (" in error and "--keep" in error
    assert (
        not list(Path("runs/digits/export").glob("*.onnx*")) if Path("runs/digits/export").exists() else True
    )
    run("export", "runs/digits", "--quantize", "int8-static", "--allow-loss", "100", "--output", "bad.onnx")
    for keep in ("backbone.blocks.1", "auto"):
        run("export", "runs/digits", "--quantize", "int8-static", "--keep", keep, "--overwrite")
        told = jichu.open("runs/digits/export/model-int8-static.onnx").signature.quantized
        assert told["keep"] == ["backbone.blocks.1" if keep != "auto" else "backbone.blocks.1.0"]


def test_the_graph_is_proven_before_it_is_quantized(place, monkeypatch):
    write = Onnx.write

    def other(self, subject, path):
        bias = subject.model.heads["label"].linear.bias.data
        bias += torch.arange(10.0)
        write(self, subject, path)
        bias -= torch.arange(10.0)

    monkeypatch.setattr(Onnx, "write", other)
    with pytest.raises(CheckFailed, match=r"first layer heads\.label"):
        jichu.export("runs/digits", quantize="int8-weights")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quantize", "int8-statik"], "did you mean: int8-static"),
        (["--quantize", "{name: int8-static, calibration: mean}"], "calibration"),
        (["--quantize", "{name: int8-static, rows: 0}"], "1 at least"),
        (["--quantize", "{name: int8-static, percentile: 20}"], "over 50"),
        (["--quantize", "{name: int8-weights, block: 24}"], "blocks of 24"),
        (["--quantize", "{name: int8-dynamic, rows: 3}"], "rows"),
        (["--quantize", "3"], "--quantize"),
        (["--quantize", "int8-static", "--to", "torch"], "--to onnx"),
        (["--quantize", "int8-static", "--keep", "backbone.block"], "did you mean: backbone.blocks"),
        (["--quantize", "int8-static", "--allow-loss", "-1"], "0 or more"),
        (["--quantize", "int8-static", "--allow-loss", "nan"], "0 or more"),
        (["--keep", "heads"], "--quantize too"),
    ],
)
def test_wrong_use_is_refused(place, words, said, capsys):
    run("export", "runs/digits", *words, code=2)
    assert said in capsys.readouterr().err


def test_without_labels_or_held_out_rows_nothing_is_compared(place, capsys):
    run("export", "runs/gpt", "--quantize", "int8-weights", code=2)
    assert "llama-quantize" in capsys.readouterr().err
    recipe = Path("runs/digits/recipe.yaml")
    recipe.write_text(recipe.read_text().replace("test: 0.2", "test: 0.0"))
    run("export", "runs/digits", "--quantize", "int8-weights", code=3)
    assert "no held-out rows" in capsys.readouterr().err


def test_ranges_that_training_saw_are_those_of_the_graph(place):
    """A model that was trained with rounded weights and inputs: int8 of its graph says what the model says."""
    run_ = jichu.compress("runs/digits", steps=["quantization-aware"], budget="20 steps", name="rounded")
    found = jichu.export(run_, quantize={"name": "int8-static", "rows": 8})
    ends = seen(run_.model)
    graph = onnx.load(found.path).graph
    held = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for layer, place in (("backbone.blocks.1.0", 1), ("backbone.blocks.2.0", 2)):
        node = [n for n in graph.node if n.op_type == "Conv"][place]
        dequantize = next(n for n in graph.node if n.output[0] == node.input[0])
        low, high = ends[layer]
        assert held[dequantize.input[1]] == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-5)
    dataset = run_.dataset()
    images = dataset.tensors["image"][dataset.splits["test"]]
    theirs = jichu.open(str(found.path)).run({"image": images.numpy()})["label"]
    ours = run_.model({"image": images})["label"].softmax(1).detach().numpy()
    assert decibels(ours, theirs) > 40


def test_no_row_of_the_data_is_in_the_file(place):
    """Of what was seen for ranges there are ranges alone."""
    found = jichu.export("runs/digits", quantize={"name": "int8-static", "rows": 8})
    written = found.path.read_bytes()
    images = jichu.open("runs/digits").dataset().tensors["image"].numpy()
    assert len(images) > 1000 and not any(image.tobytes() in written for image in images)
