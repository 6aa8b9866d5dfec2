"""Backbones of transformers, and pretrained weights from folders, the hub and files."""

import json

import pytest
import torch

import jichu
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.models import BACKBONES
from jichu.models import transformers_vision as vision

transformers = pytest.importorskip("transformers")
SMALL_VIT = {"width": 16, "depth": 2, "heads": 2}
SMALL_CONVNEXT = {"widths": [8, 16], "depths": [1, 1]}


def pixels(size=32, channels=3, rows=2):
    return torch.randn(rows, channels, size, size, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------- by configuration


@pytest.mark.parametrize(
    "make",
    [
        lambda: vision.vit(1, 8, **SMALL_VIT),
        lambda: vision.vit(1, 8, **SMALL_VIT, patch=4, dropout=0.1, readout="mean"),
        lambda: vision.convnext(1, 8, **SMALL_CONVNEXT, drop_path=0.1),
    ],
)
def test_backbones_keep_their_contract(make, batch):
    torch.manual_seed(0)
    jichu.check_backbone(make, batch)


def test_sizes_are_those_of_the_papers():
    """Parameters published for the classifiers (DeiT-Ti, ConvNeXt-T), less their heads."""
    tiny = construct("backbone", Spec(name="vit-tiny"), BACKBONES, channels=3, size=224)()
    assert sum(p.numel() for p in tiny.parameters()) == 5_717_416 - 193 * 1000
    convnext = vision.convnext_tiny(3, 32)
    stem = 96 * 3 * (16 - 1)  # 1 × 1 at this size, theirs 4 × 4
    assert sum(p.numel() for p in convnext.parameters()) + stem == 28_589_128 - 769 * 1000


@pytest.mark.parametrize(("size", "patch"), [(224, 16), (96, 12), (64, 8), (32, 4), (28, 4), (8, 1), (3, 1)])
def test_the_patch_follows_the_size(size, patch):
    assert vision.vit(1, size, **SMALL_VIT).module.config.patch_size == patch


@pytest.mark.parametrize(("size", "patch"), [(224, 4), (128, 4), (64, 2), (32, 1)])
def test_the_stem_follows_the_size(size, patch):
    made = vision.convnext(3, size, widths=[2, 2, 2, 2], depths=[1, 1, 1, 1])
    assert made.module.config.patch_size == patch
    assert made({"image": pixels(size)}).maps.shape[2] >= 4


def test_what_a_vit_gives():
    image = pixels()
    cls, mean = vision.vit(3, 32, **SMALL_VIT).eval(), vision.vit(3, 32, **SMALL_VIT, readout="mean").eval()
    mean.load_state_dict(cls.state_dict())
    hidden = cls.module(pixel_values=image).last_hidden_state
    out = cls({"image": image})
    assert torch.equal(out.pooled, hidden[:, 0]) and torch.equal(out.sequence, hidden[:, 1:])
    assert torch.equal(mean({"image": image}).pooled, hidden[:, 1:].mean(1))
    assert cls.module.config._attn_implementation == "sdpa"
    assert cls({"image": pixels(64)}).sequence.shape == (2, 256, 16)  # positions interpolated


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vision.vit(3, 32, width=16, heads=3), "heads divide"),
        (lambda: vision.vit(3, 33, **SMALL_VIT, patch=4), "data.size: 32"),
        (lambda: vision.convnext(3, 32, widths=[4]), "as many of both"),
        (lambda: vision.convnext(3, 2, widths=[4] * 4, depths=[1] * 4), "larger images"),
    ],
)
def test_wrong_arguments_are_told(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_arguments_are_checked_by_name():
    build = construct(
        "backbone", Spec(name="vit", width=16, depth=1, heads=2, patch=8), BACKBONES, channels=1, size=32
    )
    assert build().width == 16
    with pytest.raises(UsageError, match="did you mean: readout"):
        construct("backbone", Spec(name="vit-tiny", readuot="mean"), BACKBONES, channels=1, size=32)


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"jichu\[transformers\]"):
        vision.vit(1, 8, **SMALL_VIT)


@pytest.mark.parametrize(
    "make", [lambda: vision.vit(3, 32, **SMALL_VIT), lambda: vision.convnext(3, 32, **SMALL_CONVNEXT)]
)
def test_what_is_saved_loads_with_transformers(make, tmp_path):
    made = make().eval()
    made.image_mean, made.image_std, made.image_size = (0.1, 0.2, 0.3), (1.0, 1.0, 2.0), 32
    vision.save_pretrained(made, tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    with vision.quiet():
        theirs = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        ours = made.module(pixel_values=pixels())
        assert torch.equal(theirs(pixel_values=pixels()).last_hidden_state, ours.last_hidden_state)
    about = json.loads((tmp_path / "out/preprocessor_config.json").read_text())
    assert about["image_mean"] == [0.1, 0.2, 0.3]
