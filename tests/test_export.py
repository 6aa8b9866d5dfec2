"""Runs exported by the command line, proven, refused; and asked without torch."""

import contextlib
import json
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import jichu
from jichu.cli.main import main
from jichu.core.errors import CheckFailed, DataError, UsageError
from jichu.data.config import TokenizerConfig
from jichu.data.special import TextInputs
from jichu.data.texts import ragged
from jichu.data.tokenizer import Tokenizer
from jichu.data.tokens import Tokens, tokenise
from jichu.models.backbone import Backbone, Features
from jichu.ship.signature import Signature
from jichu.ship.tokens import laid_out
from test_networks import images

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _without_traces():
    logging.disable(logging.DEBUG)  # which torch writes thousands of lines to, where anybody listens
    yield
    logging.disable(logging.NOTSET)


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of each kind of input, quickly fitted."""
    place = tmp_path_factory.mktemp("exports")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        rows = [
            f'{i % 7},"{i % 5},5",{"uvw"[i % 3]},2030-0{1 + i % 9}-11,{"no" if i % 7 + i % 3 > 4 else "yes"}'
            for i in range(200)
        ]
        Path("rows.csv").write_text("\n".join(["n,width,kind,day,label", *rows, ",,x,,no"]))
        said = [f"{('good', 'bad')[i % 2]} words on number {i},{'ab'[i % 2]}" for i in range(120)]
        Path("said.csv").write_text("\n".join(["text,label", *said]))
        for i in range(40):
            folder = Path("sounds") / "lh"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            wave = np.sin(np.arange(1600) * (0.1, 0.6)[i % 2]) * 0.3 + 0.01 * rng.standard_normal(1600)
            soundfile.write(folder / f"{i}.wav", wave, 8000)
        quick = ("--set", "data.clean={}", "--quiet")
        fit = ("finetune", "--head")
        run(
            *fit,
            "logistic-regression",
            "--backbone",
            "pixels",
            "--name",
            "image",
            "sklearn:digits",
            "--quiet",
        )
        run(*fit, "gradient-boosting", "--backbone", "cells", "--name", "table", "rows.csv", "--quiet",
            "--set", "data.columns={width: {type: number}}")  # fmt: skip
        run(*fit, "logistic-regression", "--backbone", "words", "--name", "text", "said.csv", *quick[2:])
        run(*fit, "logistic-regression", "--backbone", "bands", "--name", "sound", "sounds", *quick[2:])
    return place


ASKED = {"image": None, "table": "rows.csv", "text": "said.csv", "sound": "sounds/l/0.wav"}
WITHOUT_TORCH = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("torch is not to be imported")

sys.meta_path.insert(0, Refuse())
import jichu
from jichu.cli.main import main
asked = json.loads(sys.argv[1])
for file, inputs in asked.items():
    assert main(["predict", file, *inputs, "--json"]) == 0
    print("----")
assert "torch" not in sys.modules
"""


def test_a_graph_is_asked_without_torch_and_says_the_same(place):
    """Of images, rows of a table, texts and sounds, through the command line in a process of its own."""
    asked, expected = {}, []
    for kind, path in ASKED.items():
        found = jichu.export(f"runs/{kind}")
        assert found.path == Path(f"runs/{kind}/export/model.onnx") and found.rows >= 8
        inputs = sorted(map(str, Path(f"runs/{kind}/examples").glob("*")))[:2] if path is None else [path]
        asked[str(found.path)] = inputs
        expected.append([p for i in inputs for p in jichu.open(f"runs/{kind}").predict(i)])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(asked)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for text, ours in zip(done.stdout.split("----"), expected, strict=False):
        theirs = json.loads(text)
        assert [p["input"] for p in theirs] == [p["input"] for p in ours]
        for a, b in zip(theirs, ours, strict=True):
            assert a["label"] == b["label"] and a["scores"] == pytest.approx(b["scores"], abs=1e-5)


def test_graphs_are_served(place):
    """Requests join, and are answered as the runs answer, and kept; what a graph does not give is told."""
    from jichu.data.requests import read_requests
    from served import server

    files = {kind: jichu.export(f"runs/{kind}").path for kind in ASKED}
    rows = [{"n": i, "width": f"{i % 5},5", "kind": "uvx"[i % 3], "day": "2030-01-11"} for i in range(6)]
    given = {"table": rows, "text": ["good", "bad " * 30, "光", "a b"]}
    with server(files, wait=50.0, keep="kept", sample=1.0) as found, found.client() as client:
        for kind, items in given.items():
            expected = jichu.open(f"runs/{kind}").predict(items)
            bodies = [{"model": kind, "inputs": [item]} for item in items]
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda body: client.post("/v1/predict", json=body), bodies))
            told = [answer.json()["predictions"][0] for answer in answers]
            for a, b in zip(told, expected, strict=True):
                assert a["label"] == b["label"] and a["scores"] == pytest.approx(b["scores"], abs=1e-5)
        for kind, file in (("image", next(Path("runs/image/examples").glob("*"))), ("sound", ASKED["sound"])):
            content = {"content": Path(file).read_bytes(), "headers": {"content-type": "image/png"}}
            told = client.post(f"/v1/predict?model={kind}", **content).json()["predictions"]
            (expected,) = jichu.open(f"runs/{kind}").predict(str(file))
            assert told[0]["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        others = {"explain": {"inputs": ["a"]}, "embeddings": {"input": "a"}, "completions": {"prompt": "a"}}
        for path, body in others.items():
            told = client.post(f"/v1/{path}", json={"model": "text", **body})
            assert told.status_code == 400 and "expected" in told.json()["error"]["message"]
    kept = {kind: read_requests(Path("kept") / kind) for kind in ASKED}
    assert {kind: len(found) for kind, found in kept.items()} == {
        "table": 6,
        "text": 4,
        "image": 1,
        "sound": 1,
    }
    for kind, items in given.items():
        labels = sorted(row["label"] for row in jichu.open(f"runs/{kind}").predict(items))
        (said,) = (name for name in kept[kind].column_names if name.startswith("prediction."))
        assert sorted(kept[kind][said].to_pylist()) == labels


def test_the_version_of_a_graph_is_that_of_what_was_read(place):
    from jichu.ship.server.models import version

    jichu.export("runs/image", output="a.onnx")
    jichu.export("runs/table", output="b.onnx")
    one, other = (jichu.open(f"{name}.onnx") for name in "ab")
    before = version(one)
    shutil.copyfile("b.onnx", "a.onnx")
    assert (
        version(one) == before
        and version(jichu.open("a.onnx")).partition("@")[2] == version(other).partition("@")[2]
    )


def test_what_it_is_travels_inside_and_no_path_does(place, capsys):
    recipe = Path("runs/image/recipe.yaml")
    recipe.write_text(recipe.read_text().replace("card: null", "card: {licence: cc-by-4.0}"))
    run("export", "runs/image", "--output", "digits.onnx", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["difference"] < 1e-5 and told["bytes"] == Path("digits.onnx").stat().st_size
    graph = onnx.load("digits.onnx")
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(about["jichu.licence"]) == "cc-by-4.0" and json.loads(about["jichu.name"]) == "image"
    assert json.loads(about["jichu.inputs"]) == {"image": ["rows", 1, 8, 8]}
    assert json.loads(about["jichu.outputs"]) == {"label": ["rows", 10]}
    assert {e.version for e in graph.opset_import if not e.domain} == {18}
    model = jichu.open("digits.onnx")
    assert model.classes == list("0123456789") and len(model.signature.weights) == 32
    written = Path("digits.onnx").read_bytes()
    assert str(place).encode() not in written and b"site-packages" not in written and b".py" not in written


def test_rows_of_the_data_inside_are_told(place, monkeypatch):
    said = []
    monkeypatch.setattr("jichu.exports.say", said.append)
    jichu.export("runs/table")
    assert not any("holds rows" in line for line in said)
    run("finetune", "rows.csv", "--head", "nearest-neighbours", "--name", "near", "--quiet")
    jichu.export("runs/near")
    assert any("holds rows of the training data" in line for line in said)


def test_a_signature_comes_back_as_it_was(place):
    for kind in ASKED:
        jichu.export(f"runs/{kind}", output=f"{kind}.onnx")
        found = jichu.open(f"{kind}.onnx").signature
        assert Signature.of(found.plain(), "here") == found


# --- texts of transformers

TINY = "{name: %s, width: 32, depth: 2, heads: 2}"
STEPS = ("--budget", "3 steps", "--set", "data.context=16", "--set", "precision=float32", "--quiet")


@pytest.fixture(scope="module")
def written(made):
    """Language models, and adapters for a classifier on one of them."""
    pytest.importorskip("peft")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        data = ("said.csv", "--set", "data.text=text", "--set", "data.target=label")
        for name, backbone, kind in (("bert", "bert", "wordpiece"), ("gpt", "gpt", "bpe")):
            run("pretrain", *data, "--name", name, "--backbone", TINY % backbone, *STEPS,
                "--set", f"data.tokenizer={{name: {kind}, vocabulary: 300}}")  # fmt: skip
        run("finetune", *data, "--from", "runs/bert", "--name", "lora", "--adapt", "lora", *STEPS)
    return made


def test_adapters_are_part_of_what_is_exported(written, place, capsys):
    """In the layout of Hugging Face, from text to probability, and in a graph; not on another base than theirs."""
    import transformers

    assert not Path("runs/lora/model/model.safetensors").exists()
    found = jichu.export("runs/lora", "hf", "folder")
    tokenizer = transformers.AutoTokenizer.from_pretrained("folder")
    model = transformers.AutoModelForSequenceClassification.from_pretrained("folder")
    texts = ["good words on number 3", "bad words"]
    with torch.no_grad():
        logits = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
    ours = [p["scores"] for p in jichu.open("runs/lora").predict(texts)]
    torch.testing.assert_close(logits.softmax(1), torch.tensor([[s["a"], s["b"]] for s in ours]))
    assert model.config.id2label == {0: "a", 1: "b"} and found.difference < 1e-5
    assert json.loads(json.loads(Path("folder/jichu.json").read_text())["name"]) == "lora"
    run("export", "runs/lora", "--output", "lora.onnx")
    theirs = [p["scores"] for p in jichu.open("lora.onnx").predict(texts)]
    assert theirs == [pytest.approx(scores, abs=1e-5) for scores in ours]
    shutil.copyfile("runs/gpt/model/model.safetensors", "runs/bert/models/pretrain/model.safetensors")
    shutil.copyfile("runs/gpt/model/model.safetensors", "runs/bert/model/model.safetensors")
    run("export", "runs/lora", "--to", "torch", code=2)
    assert "other weights" in capsys.readouterr().err and not Path("runs/lora/export").exists()


def test_a_language_model_is_written_for_llama_cpp(written, place, capsys):
    """Every weight is there under GGUF's name, and texts become the same tokens; a graph of it predicts nothing."""
    gguf = pytest.importorskip("gguf")
    from transformers import AutoTokenizer

    jichu.export("runs/gpt", "gguf", "gpt.gguf")
    reader = gguf.GGUFReader("gpt.gguf")
    theirs = {t.name: torch.from_numpy(t.data.copy()) for t in reader.tensors}
    module = jichu.open("runs/gpt").model.backbone.module
    ours = {n: t for n, t in module.state_dict().items() if n != "lm_head.weight"}
    assert len(theirs) == len(ours)
    torch.testing.assert_close(theirs["token_embd.weight"], ours["transformer.wte.weight"], rtol=0, atol=0)
    turned = ours["transformer.h.1.mlp.c_fc.weight"].T
    torch.testing.assert_close(theirs["blk.1.ffn_up.weight"], turned, rtol=0, atol=0)
    assert reader.fields["general.name"].contents() == "gpt"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    text = "good words, on number 17!"
    tokenizer = jichu.open("runs/gpt").tokenizer
    assert (
        AutoTokenizer.from_pretrained(".", gguf_file="gpt.gguf")(text)["input_ids"]
        == tokenizer.encode([text])[0]
    )
    run("export", "runs/gpt", "--output", "gpt.onnx")
    run("predict", "gpt.onnx", "said.csv", code=2)
    assert "no prediction to be told row by row" in capsys.readouterr().err
    found = jichu.open("gpt.onnx").run({"tokens": np.array([[5, 6, 7]])})
    assert [a.shape for a in found.values()] == [(1, 3, len(tokenizer))]


# --- proof


@contextlib.contextmanager
def spoiled(model, layer):
    """A layer other than it was while the block runs, as an exporter with a fault would write it."""
    weight = model.get_submodule(layer).weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
        yield
        weight.copy_(kept)


@pytest.mark.parametrize(
    ("case", "to", "layer"),
    [("cnn", "onnx", "backbone.blocks.1.0"), ("resnet18", "torch", "backbone.layer2.0.conv2"),
     ("resnet18", "onnx", "backbone.layer3.0"), ("vit", "hf", "backbone.module.layers.1.mlp.fc1"),
     ("llama, language", "gguf", "backbone.module.model.layers.1.mlp.up_proj")],
)  # fmt: skip
def test_the_first_differing_layer_is_named(case, to, layer, tmp_path):
    from exporting import CASES
    from jichu.core.names import resolve
    from jichu.ship.export import FORMATS
    from jichu.ship.export.parity import check
    from test_export_matrix import subject_with_tokenizer

    of = subject_with_tokenizer(CASES[case])
    made = resolve("format", to, FORMATS)()
    names = [n for n, m in of.model.named_modules() if n.startswith(layer) and hasattr(m, "weight")]
    with spoiled(of.model, names[0]):
        made.write(of, tmp_path / f"model{made.ending}")
    with pytest.raises(CheckFailed, match=rf"(?s)differ by.*first layer {layer}") as caught:
        check(of, made.read(tmp_path / f"model{made.ending}", of), 1e-4)
    assert caught.value.code == 4


def test_what_differs_is_not_kept(place, monkeypatch, capsys):
    from jichu.ship.export.onnx_file import Onnx

    write = Onnx.write

    def other(self, subject, path):
        head = subject.model.heads["label"]
        head.bias += torch.arange(10.0)
        write(self, subject, path)
        head.bias -= torch.arange(10.0)

    monkeypatch.setattr(Onnx, "write", other)
    run("export", "runs/image", "--output", "digits.onnx", code=4)
    assert "first layer heads.label" in capsys.readouterr().err
    assert not list(place.glob("*digits*"))
    run("export", "runs/image", "--output", "digits.onnx", "--tolerance", "10")
    assert Path("digits.onnx").exists()


# --- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "onx"], "did you mean: onnx"),
        (["--output", "no/such/model.onnx"], "there is no folder no/such"),
        (["--output", "model.pt"], "model.onnx"),
        (["--output", "said.onnx"], "there already"),
        (["--output", "folder.onnx"], "is a folder"),
        (["--to", "hf", "--output", "sounds", "--overwrite"], "no export that could"),
        (["--to", "hf", "--output", "runs/image/model", "--overwrite"], "no export that could"),
        (["--to", "hf", "--output", "said.onnx"], "is a file"),
        (["--tolerance", "0"], "above 0"),
        (["--to", "gguf"], "models that write texts"),
        (["--to", "hf"], "no class for the backbone pixels"),
    ],
)
def test_wrong_use_is_refused(place, words, said, capsys):
    Path("said.onnx").write_text("of somebody")
    Path("folder.onnx").mkdir()
    run("export", "runs/image", *words, code=2)
    assert said in capsys.readouterr().err and Path("said.onnx").read_text() == "of somebody"


def test_what_is_there_may_be_overwritten(place):
    run("export", "runs/image", "--to", "torch", "--output", "m.pt2")
    run("export", "runs/text", "--to", "torch", "--output", "m.pt2", code=2)
    run("export", "runs/text", "--to", "torch", "--output", "m.pt2", "--overwrite")
    about = {}
    torch.export.load("m.pt2", extra_files=(about := {"jichu.json": ""}))
    assert json.loads(json.loads(about["jichu.json"])["name"]) == "text"


def test_damaged_runs_are_refused(place, capsys):
    for damage, code, said in (
        (lambda model: shutil.rmtree(model), 2, "no model in"),
        (lambda model: (model / "config.json").write_text("{}"), 3, "damaged"),
        (lambda model: (model / "model.safetensors").write_bytes(b"half"), 3, "cannot read the weights"),
        (lambda model: _edit(model / "config.json", "size", 16), 3, "cannot be run"),
    ):
        shutil.copytree("runs/image", "runs/damaged")
        damage(Path("runs/damaged/model"))
        run("export", "runs/damaged", code=code)
        assert said in capsys.readouterr().err
        shutil.rmtree("runs/damaged")
    run("export", "runs/imgae", code=2)
    assert "did you mean: runs/image" in capsys.readouterr().err


def _edit(file, key, value):
    about = json.loads(file.read_text())
    about["image"][key] = value
    file.write_text(json.dumps(about))


def test_files_that_are_no_models_are_refused(place, capsys):
    Path("broken.onnx").write_bytes(b"\x08\x07 no graph")
    run("predict", "broken.onnx", "said.csv", code=3)
    assert "cannot read it" in capsys.readouterr().err
    run("predict", "none.onnx", "said.csv", code=2)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
        *([onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1])] for n in "xy"),
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), "other.onnx")
    run("predict", "other.onnx", "said.csv", code=3)
    assert "a file of jichu export" in capsys.readouterr().err
    jichu.export("runs/image", output="digits.onnx")
    run("predict", "digits.onnx", "said.csv", code=3)  # which is no image
    assert "not an image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("table", lambda told: told | {"numbers": []}, "of numbers is not so"),
        ("table", lambda told: told | {"categories": {}}, "of categories is not so"),
        ("targets", lambda told: {"label": told["label"] | {"classes": ["no"]}}, "of label is not so"),
        ("targets", lambda told: {"other": told["label"]}, "of other is not so"),
    ],
)
def test_what_a_file_says_is_held_beside_its_graph(key, change, said, place):
    jichu.export("runs/table", output="rows.onnx", overwrite=True)
    graph = onnx.load("rows.onnx")
    (about,) = (entry for entry in graph.metadata_props if entry.key == f"jichu.{key}")
    about.value = json.dumps(change(json.loads(about.value)))
    onnx.save(graph, "changed.onnx")
    with pytest.raises(DataError, match=f"damaged.*{said}"):
        jichu.open("changed.onnx")


class Rooted(Backbone):
    """A layer whose operator ONNX does not have, and one whose course depends on the data."""

    width = 4

    class Eigenvalues(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvalsh(x)

    class Steps(nn.Module):
        def forward(self, x):
            return x[..., 0] * int(x.abs().sum())

    def __init__(self, channels, size, untraceable=False):
        super().__init__()
        self.odd = self.Steps() if untraceable else self.Eigenvalues()

    def forward(self, batch):
        return Features(self.odd(batch["image"][:, 0, :4, :4]))


@pytest.mark.parametrize(
    ("untraceable", "said"), [(False, r"eigh.*layer backbone\.odd"), (True, r"traced.*layer backbone\.odd")]
)
def test_an_operator_that_is_not_there_is_named(untraceable, said, tmp_path):
    from exporting import config, image, subject
    from jichu.ship.export.onnx_file import Onnx

    of = subject(config({"name": "test_export:Rooted", "untraceable": untraceable}, **image(8, 1)))
    assert of.model(images(8))["label"].shape == (3, 3)
    with pytest.raises(UsageError, match=rf"(?s){said}.*--to torch"):
        Onnx().write(of, tmp_path / "model.onnx")


# --- texts


@given(st.data())
def test_texts_are_laid_out_as_in_training(data):
    """One by one, and without torch, as all at once."""
    special = data.draw(st.sampled_from(["bert", "gpt", "llama", "t5"]))
    pair = data.draw(st.booleans())
    windows = 1 if pair else data.draw(st.integers(1, 3))
    context = data.draw(st.integers(5, 12))
    truncation = data.draw(st.sampled_from(["left", "right"]))
    tokenizer = _tokenizer(special, truncation)
    texts = st.lists(st.text("abc ", max_size=20), min_size=3, max_size=3)
    columns = [data.draw(texts) for _ in range(1 + pair)]
    parts = [tokenise(ragged(column), tokenizer, None) for column in columns]
    expected = Tokens.of(tokenizer, context, *parts, windows=windows, told=False)
    inputs = TextInputs(len(tokenizer), context, tokenizer.special, pair=pair, windows=windows)
    found = laid_out(tokenizer, inputs, columns)
    np.testing.assert_array_equal(found, expected.index_select(0, torch.arange(3)).numpy())
    wide = laid_out(tokenizer, inputs, columns, context * windows)
    np.testing.assert_array_equal(wide[:, : found.shape[1]], found)
    assert wide.shape == (3, context * windows) and (wide[:, found.shape[1] :] == -1).all()


_KNOWN = {}


def _tokenizer(special, truncation):
    key = special, truncation
    if key not in _KNOWN:
        config = TokenizerConfig(name="characters", vocabulary=150, special=special, truncation=truncation)
        made = Tokenizer.train(config, ["abc cab"])
        _KNOWN[key] = Tokenizer.from_str(made.to_str())
        assert _KNOWN[key].fingerprint == made.fingerprint
    return _KNOWN[key]


def test_a_damaged_tokenizer_is_refused():
    for text in ("{}", "no json", '{"tokenizer": {}, "settings": {}}'):
        with pytest.raises(DataError, match="damaged"):
            Tokenizer.from_str(text)
