"""Every backbone, head and task in every format that holds it, against the model; and which are refused, and why."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from exporting import CASES, SIZES, TEXT, config, image, subject
from jichu.core.errors import CheckFailed, UsageError
from jichu.data.config import TokenizerConfig
from jichu.data.decode import Preprocess
from jichu.data.tokenizer import Tokenizer
from jichu.models import BACKBONES, HEADS
from jichu.models.recurrent import OverText
from jichu.ship.export.gguf_file import Gguf
from jichu.ship.export.hugging_face import HuggingFace
from jichu.ship.export.onnx_file import Onnx
from jichu.ship.export.parity import check
from jichu.ship.export.torch_file import TorchExport

pytest.importorskip("onnxruntime")
pytest.importorskip("transformers")
TOLERANCE = 1e-4
# what is refused, by part of the message
HF = {
    "bert of pairs": "such heads",
    "bert in windows": "windows",
    "t5": "such heads",
    "a scaled vit": "scaled",
}
IN_HF = ["vit", "convnext", "bert", "gpt", "llama", "wav2vec2", "bert, language", "gpt, language", "llama, language",
         "t5, language"]  # fmt: skip
IN_GGUF = ["gpt, language", "llama, language"]


@pytest.fixture(autouse=True)
def _without_traces():
    logging.disable(logging.DEBUG)  # which torch writes thousands of lines to, where anybody listens
    yield
    logging.disable(logging.NOTSET)


def exported(format_, of, place):
    path = place / f"model{format_.ending}"
    format_.write(of, path)
    return check(of, format_.read(path, of), TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_graphs_say_what_the_model_says(case, tmp_path):
    of = subject(CASES[case])
    assert exported(Onnx(), of, tmp_path).rows == 8
    if isinstance(of.model.backbone, OverText):
        with pytest.raises(UsageError, match=r"(?s)step by step.*backbone\.recurrent.*--to onnx"):
            TorchExport().write(of, tmp_path / "model.pt2")
    else:
        assert exported(TorchExport(), of, tmp_path).rows == 8
    assert not any("states" in vars(m) or "depth" in vars(m) for m in of.model.modules())  # as it was


def test_every_backbone_and_head_is_in_the_matrix():
    names = {made.backbone["name"] for made in CASES.values()}
    assert [n for n in BACKBONES if n not in names and not n.startswith(SIZES) and n != "hf:"] == []
    families = {BACKBONES[n].partition(":")[0] for n in names}
    assert {BACKBONES[n].partition(":")[0] for n in BACKBONES if n != "hf:"} <= families
    heads = {spec["name"] for made in CASES.values() for spec in made.heads.values()}
    assert set(HEADS) == heads
    tasks = {target.task for made in CASES.values() for target in made.targets.values()}
    assert tasks == {"classification", "multilabel", "regression", "forecast"}


@pytest.mark.parametrize("case", IN_HF)
def test_transformers_says_what_the_model_says(case, tmp_path):
    of = subject_with_tokenizer(CASES[case])
    assert exported(HuggingFace(), of, tmp_path).rows == 8


@pytest.mark.parametrize("case", [*(c for c in CASES if c not in IN_HF), "a scaled vit"])
def test_what_transformers_has_no_class_for_is_refused(case, tmp_path):
    """With the reason; a ViT read out by its mean is found out by the comparison alone."""
    of = subject_with_tokenizer(CASES.get(case) or replace(CASES["vit"], scaled=24))
    if case == "vit, mean":
        with pytest.raises(CheckFailed, match="another label"):
            exported(HuggingFace(), of, tmp_path)
        return
    with pytest.raises(UsageError, match=rf"(?s)no class for.*{HF.get(case, '')}.*--to onnx"):
        HuggingFace().write(of, tmp_path / "model")


@pytest.mark.parametrize("case", ["no head of vit", "no head of wav2vec2"])
def test_backbones_alone_are_theirs(case, tmp_path):
    made = CASES[case.removeprefix("no head of ")]
    of = subject(config(made.backbone, None, image=made.image, audio=made.audio))
    assert exported(HuggingFace(), of, tmp_path).rows == 8


@pytest.mark.parametrize("case", ["vit", "convnext"])
def test_grey_images_are_theirs_in_colour(case, tmp_path):
    """As transformers' own pipeline gives them, of any picture."""
    from transformers import pipeline

    made = CASES[case]
    size = made.image.size
    of = subject(config(made.backbone, image=Preprocess(size, 1, "stretch")))
    assert exported(HuggingFace(), of, tmp_path).rows == 8
    bare = subject(config(made.backbone, None, image=Preprocess(size, 1, "stretch")))
    (tmp_path / "bare").mkdir()
    assert exported(HuggingFace(), bare, tmp_path / "bare").rows == 8
    told = pipeline("image-classification", str(tmp_path / "model"))
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    for picture in (Image.fromarray(noise), Image.fromarray(noise[..., 0])):
        grey = torch.from_numpy(np.array(picture.convert("L")))[None, None]
        (expected,) = of.model({"image": grey})["label"].softmax(1).tolist()
        found = {one["label"]: one["score"] for one in told(picture)}
        assert [found[name] for name in "abc"] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("case", IN_GGUF)
def test_gguf_says_what_the_model_says(case, tmp_path):
    pytest.importorskip("gguf")
    assert exported(Gguf(), subject_with_tokenizer(CASES[case]), tmp_path).rows == 8


@pytest.mark.parametrize("case", [c for c in CASES if c not in IN_GGUF])
def test_what_gguf_is_not_for_is_refused(case, tmp_path):
    pytest.importorskip("gguf")
    with pytest.raises(UsageError, match=r"(?s)GGUF is .*--to onnx"):
        Gguf().write(subject(CASES[case]), tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("where", "key", "value", "model"),
    [("model", "dropout", None, "gpt2"), ("pre_tokenizer", "add_prefix_space", True, "none"),
     ("model", "end_of_word_suffix", "</w>", "none"), ("model", "ignore_merges", True, "none")],
)  # fmt: skip
def test_only_what_splits_texts_as_gpt2_is_said_to(where, key, value, model, tmp_path):
    gguf = pytest.importorskip("gguf")
    bpe = Tokenizer.train(TokenizerConfig(name="bpe", vocabulary=270), ["to be or not to be"])
    plain = json.loads(bpe.to_str())
    plain["tokenizer"][where][key] = value
    of = subject_with_tokenizer(replace(CASES["gpt, language"], text=replace(TEXT, vocabulary=270)))
    Gguf().write(replace(of, tokenizer=Tokenizer.from_str(json.dumps(plain))), tmp_path / "m.gguf")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert fields["tokenizer.ggml.model"].contents() == model


def subject_with_tokenizer(made):
    special = "llama" if made.backbone["name"] == "llama" else "gpt"
    found = None
    if made.text is not None:
        kind = TokenizerConfig(
            name="characters", vocabulary=40, special="auto" if special == "gpt" else special
        )
        found = Tokenizer.train(kind, ["to be or not to be", "that is the question"])
    return replace(subject(made), tokenizer=found)


def test_dimensions_that_vary_do(tmp_path):
    """Of a graph that was traced with rows of one length, one row of one token is another."""
    of = subject(CASES["bert"])
    Onnx().write(of, tmp_path / "model.onnx")
    runtime = Onnx().read(tmp_path / "model.onnx", of)
    for shape in ((1, 1), (1, 16), (7, 2)):
        tokens = torch.full(shape, 6)
        (found,) = runtime({"tokens": tokens}).values()
        torch.testing.assert_close(torch.from_numpy(found), of.model({"tokens": tokens})["label"].softmax(1))


def test_images_enter_as_they_are_in_files(tmp_path):
    import onnx

    of = subject(config("cnn", **image(16)))
    Onnx().write(of, tmp_path / "model.onnx")
    (given,) = onnx.load(tmp_path / "model.onnx").graph.input
    dims = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, dims, given.type.tensor_type.elem_type) == (
        "image",
        ["rows", 3, 16, 16],
        onnx.TensorProto.UINT8,
    )
