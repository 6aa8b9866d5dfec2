"""Backbones of transformers, and pretrained weights from folders, the hub and files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import jichu
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.names import construct
from jichu.models import BACKBONES
from jichu.models import transformers_vision as vision
from jichu.models.weights import load_pretrained, load_tensors

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


# ------------------------------------------------------------------- weights from a file


def small_resnet(channels=3, size=224):
    return construct(
        "backbone", Spec(name="resnet18", base=4), BACKBONES, channels=channels, size=size
    )().eval()


def resnet_weights(prefix="", channels=3):
    """A classifier's state dict with torchvision's names, and the network it was made of."""
    torch.manual_seed(1)
    network = small_resnet(channels)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    tensors = {prefix + n: t.clone() for n, t in network.state_dict().items()}
    return {
        **tensors,
        f"{prefix}fc.weight": torch.zeros(10, 32),
        f"{prefix}fc.bias": torch.zeros(10),
    }, network


@pytest.mark.parametrize("prefix", ["", "module.", "module.model.", "backbone.encoder."])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_of_a_file(tmp_path, prefix, ending):
    tensors, trained = resnet_weights(prefix)
    path = tmp_path / f"weights.{ending}"
    save_file(tensors, path) if ending == "safetensors" else torch.save(
        {"state_dict": tensors, "epoch": 3}, path
    )
    network = small_resnet()
    found = load_pretrained(network, path)
    assert torch.equal(network({"image": pixels(64)}).pooled, trained({"image": pixels(64)}).pooled)
    assert found.tensors == 120 and not found.missing
    assert set(found.unexpected) == {"fc.weight", "fc.bias"}
    assert network.image_mean == (0.485, 0.456, 0.406) and network.image_size == 224


def test_older_weights_count_no_batches(tmp_path):
    tensors, _ = resnet_weights()
    torch.save({n: t for n, t in tensors.items() if "tracked" not in n}, tmp_path / "old.pth")
    found = load_pretrained(small_resnet(), tmp_path / "old.pth")
    assert found.tensors == 100 and len(found.missing) == 20


def test_grey_is_the_sum_over_colours(tmp_path):
    tensors, trained = resnet_weights()
    save_file(tensors, tmp_path / "w.safetensors")
    grey = small_resnet(1)
    load_pretrained(grey, tmp_path / "w.safetensors")
    image = pixels(64, 1)
    expected = trained({"image": image.expand(-1, 3, -1, -1)}).pooled
    torch.testing.assert_close(grey({"image": image}).pooled, expected, rtol=1e-4, atol=1e-5)
    assert grey.image_mean == pytest.approx((0.449,), abs=1e-6) and len(grey.image_std) == 1


class Names(nn.Module):
    """Parameters with given names and shapes, for the names of networks that are not at hand."""

    def __init__(self, **shapes):
        super().__init__()
        for path, shape in shapes.items():
            *parents, last = path.split("__")
            node = self
            for parent in parents:
                if parent not in dict(node.named_children()):
                    node.add_module(parent, nn.Module())
                node = node.get_submodule(parent)
            node.register_parameter(last, nn.Parameter(torch.zeros(shape)))


def test_names_of_timms_vgg_and_of_published_densenets():
    """A dense layer over a flattened map is the convolution as large as the map."""
    vgg = Names(classifier__0__weight=(5, 2 * 7 * 7), classifier__0__bias=5, classifier__3__weight=(4, 5))
    dense = nn.Conv2d(2, 5, 7)
    load_tensors(
        vgg,
        {"pre_logits.fc1.weight": dense.weight.detach(), "pre_logits.fc1.bias": dense.bias.detach(),
         "pre_logits.fc2.weight": torch.ones(4, 5, 1, 1), "head.fc.weight": torch.ones(3, 4)},
        "vgg",
    )  # fmt: skip
    maps = torch.randn(3, 2, 7, 7)
    layer = vgg.get_submodule("classifier.0")
    torch.testing.assert_close(
        nn.functional.linear(maps.flatten(1), layer.weight, layer.bias), dense(maps).flatten(1)
    )
    densenet = Names(features__denseblock1__denselayer10__norm1__weight=3)
    load_tensors(densenet, {"features.denseblock1.denselayer10.norm.1.weight": torch.ones(3)}, "densenet")
    assert densenet.get_parameter("features.denseblock1.denselayer10.norm1.weight").sum() == 3


def test_weights_that_do_not_fit(tmp_path):
    tensors, _ = resnet_weights()
    with pytest.raises(
        UsageError, match=r"conv1.weight is \[4, 3, 7, 7\]\n.*\n  expected: \[4, 3, 3, 3\].*stem: large"
    ):
        load_tensors(small_resnet(size=32), tensors, "file")
    short = {n: t for n, t in tensors.items() if not n.startswith("layer4.1.conv")}
    with pytest.raises(
        UsageError, match=r"lack 2 of the backbone's 120 tensors: layer4.1.conv1.weight"
    ) as caught:
        load_tensors(small_resnet(), short, "file")
    assert caught.value.nearest.endswith(".conv1.weight")
    with pytest.raises(UsageError, match="no file"):
        load_pretrained(small_resnet(), tmp_path / "nothing.pth")


class Runs:
    """What must never be unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_files_that_are_no_weights(tmp_path, in_folder):
    torch.save({"a": Runs()}, "evil.pth")
    torch.save([torch.ones(2)], "list.pth")
    torch.save({"a": 1}, "number.pt")
    Path("noise.pth").write_bytes(b"\x00noise" * 99)
    Path("empty.pt").touch()
    save_file({"a": torch.ones(99)}, "whole.safetensors")
    Path("cut.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-50])
    for name, words in {
        "evil.pth": "could run code", "list.pth": "not a state dict", "number.pt": "not a state dict",
        "noise.pth": "noise.pth", "empty.pt": "cannot read", "cut.safetensors": "cannot read",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words) as caught:
            load_pretrained(small_resnet(), name)
        assert name in str(caught.value)
    assert not Path("ran").exists()
