"""Backbones of transformers, and pretrained weights from folders, the hub and files."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from torch import nn

import jichu
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.names import construct
from jichu.models import BACKBONES, attention
from jichu.models import hub_images as images
from jichu.models import transformers_vision as vision
from jichu.models.weights import load_pretrained, load_tensors

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
    assert cls.module.config._attn_implementation == attention.NAME
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


# ------------------------------------------------------------------- checkpoints by hf: names

TOKENS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
DENSE = {**TOKENS, "intermediate_size": 32}
STAGES = {"depths": [1, 1], "hidden_sizes": [8, 16]}
WINDOWS = {
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
    "image_size": 32,
    "patch_size": 4,
}
TINY = {
    "beit": DENSE, "clip_vision_model": DENSE, "convnext": {**STAGES, "num_stages": 2},
    "convnextv2": {**STAGES, "num_stages": 2}, "deit": DENSE, "dinov2": TOKENS, "dinov2_with_registers": TOKENS,
    "dinov3_vit": {**DENSE, "num_register_tokens": 2},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}, "ijepa": DENSE,
    "mobilenet_v2": {"depth_multiplier": 0.1},
    "mobilevit": {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [8] * 7, "num_attention_heads": 2},
    "regnet": {**STAGES, "embedding_size": 8, "groups_width": 4},
    "resnet": {**STAGES, "embedding_size": 8, "layer_type": "basic"}, "siglip_vision_model": DENSE,
    "swin": WINDOWS, "swinv2": WINDOWS, "vit": DENSE,
}  # fmt: skip
STATISTICS = {
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "size": {"height": 32, "width": 32},
}


def checkpoint(folder, kind="vit", **changes):
    """A checkpoint as transformers writes it, and its network."""
    torch.manual_seed(2)
    with vision.quiet():
        config = transformers.AutoConfig.for_model(kind, **{**TINY[kind], **changes})
        network = transformers.AutoModel.from_config(config).eval()
        network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(STATISTICS))
    return network


def load(name, channels=3, size=32, **arguments):
    return construct(
        "backbone", Spec(name=name, **arguments), BACKBONES, of=nn.Module, channels=channels, size=size
    )()


def test_every_kind_is_tested():
    assert set(TINY) == set(images.MODEL_TYPES)


@pytest.mark.parametrize("kind", TINY)
def test_a_checkpoint_of_transformers(kind, tmp_path):
    """Features are those of the library, positions of register and class tokens apart; all is trained."""
    theirs = checkpoint(tmp_path, kind)
    ours = load(f"hf:{tmp_path}").eval()
    image = pixels()
    with torch.no_grad():
        out, expected = ours({"image": image}), theirs(pixel_values=image)
    hidden = expected.last_hidden_state
    torch.testing.assert_close(out.maps if hidden.ndim == 4 else out.sequence, hidden if hidden.ndim == 4
                               else hidden[:, hidden.shape[1] - out.sequence.shape[1] :])  # fmt: skip
    if out.sequence is not None and kind not in ("swin", "swinv2"):
        assert out.sequence.shape[1] == (32 // 8) ** 2
    if kind in ("vit", "deit", "beit"):
        torch.testing.assert_close(out.pooled, hidden[:, 0])
    elif kind not in ("swin", "swinv2", "ijepa", "mobilenet_v2"):
        torch.testing.assert_close(out.pooled, expected.pooler_output.flatten(1))
    assert (ours.image_mean, ours.image_std, ours.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 32)
    training = ours.train()
    training({"image": image}).pooled.square().sum().backward()
    assert all(p.grad is not None for p in training.parameters() if p.requires_grad)


def test_a_checkpoint_of_a_classifier(tmp_path):
    """What most checkpoints on the hub are: a head that is not used, and no pooler."""
    torch.manual_seed(0)
    with vision.quiet():
        theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**DENSE)).eval()
        theirs.save_pretrained(tmp_path)
    ours = load(f"hf:{tmp_path}").eval()
    assert torch.equal(
        ours({"image": pixels()}).pooled, theirs.vit(pixel_values=pixels()).last_hidden_state[:, 0]
    )
    assert ours.image_mean is None and ours.image_size == 32


def test_other_channels_and_sizes(tmp_path):
    theirs = checkpoint(tmp_path)
    grey = load(f"hf:{tmp_path}", channels=1, size=48).eval()
    image = pixels(48, 1)
    with torch.no_grad():
        expected = theirs(pixel_values=image.expand(-1, 3, -1, -1), interpolate_pos_encoding=True)
        torch.testing.assert_close(
            grey({"image": image}).pooled, expected.last_hidden_state[:, 0], rtol=1e-4, atol=1e-5
        )
    assert grey.image_mean == pytest.approx((0.2,)) and grey.image_std == pytest.approx((0.5,))
    with pytest.raises(UsageError, match=r"is \[16, 3, 8, 8\]"):
        load(f"hf:{tmp_path}", channels=4)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_built_again_without_its_checkpoint(tmp_path, channels):
    checkpoint(tmp_path)
    first = load(f"hf:{tmp_path}", channels, 48, readout="mean").eval()
    config = json.loads(json.dumps(first.saved_config))
    again = load("hf:gone/away", channels, 48, readout="mean", config=config).eval()
    again.load_state_dict(first.state_dict())
    image = pixels(48, channels)
    assert torch.equal(again({"image": image}).pooled, first({"image": image}).pooled)


def test_nothing_that_a_checkpoint_names_is_run(tmp_path):
    checkpoint(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    about |= {
        "auto_map": {"AutoModel": "evil.py"},
        "attn_implementation": "someone/kernel",
        "dtype": "float16",
    }
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "evil.py").write_text("raise SystemExit")
    made = load(f"hf:{tmp_path}")
    assert made.module.config._attn_implementation == attention.NAME
    assert next(made.parameters()).dtype == torch.float32


def timm_checkpoint(folder, architecture, tensors, **trained):
    """A folder as timm writes it."""
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    about = {"architecture": architecture.partition(".")[0], "num_classes": 1000, "pretrained_cfg": {
        "tag": "a1_in1k", "input_size": [3, 224, 224], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], **trained,
    }}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**about, "architecture": architecture}))


def test_a_checkpoint_of_timm(tmp_path):
    torch.manual_seed(3)
    trained = construct("backbone", Spec(name="resnet18"), BACKBONES, channels=3, size=224)().eval()
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    timm_checkpoint(tmp_path, "resnet18.a1_in1k", {**trained.state_dict(), **head})
    ours = load(f"hf:{tmp_path}").eval()  # at 32 pixels the stem is still the one that was trained
    assert torch.equal(ours({"image": pixels()}).pooled, trained({"image": pixels()}).pooled)
    assert ours.image_mean == (0.5, 0.4, 0.3) and ours.image_size == 224
    again = load("hf:gone/away", config=json.loads(json.dumps(ours.saved_config)))
    again.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224.augreg_in21k", "convnext_tiny", "resnet17"])
def test_a_timm_network_that_is_not_ours(tmp_path, name):
    timm_checkpoint(tmp_path, name, {"a": torch.ones(1)})
    with pytest.raises(UsageError, match="none of our networks") as caught:
        load(f"hf:{tmp_path}")
    assert "facebook/convnext-tiny-224" in str(caught.value)
    assert name != "resnet17" or caught.value.nearest == "resnet18"


def damage(folder, how):
    """One thing wrong with a checkpoint."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    about = json.loads(config.read_text())
    if how == "no config":
        config.unlink()
    if how == "config cut":
        config.write_text(config.read_text()[:40])
    if how == "config a list":
        config.write_text("[]")
    if how == "no type":
        config.write_text("{}")
    if how == "type":
        config.write_text(json.dumps({**about, "model_type": "vitt"}))
    if how == "types":
        config.write_text(json.dumps({**about, "model_type": ["vit"]}))
    if how == "value":
        config.write_text(json.dumps({**about, "hidden_size": "wide"}))
    if how == "shape":
        config.write_text(json.dumps({**about, "intermediate_size": 24}))
    if how == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    if how == "no weights":
        weights.unlink()
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    if how == "noise":
        weights.write_bytes(b"noise" * 100)
    if how == "missing":
        tensors = {n: t for n, t in load_file(weights).items() if "layernorm.weight" not in n}
        save_file(tensors, weights, {"format": "pt"})


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("no config", UsageError, "no config.json"),
        ("config cut", DataError, "config.json"),
        ("config a list", DataError, "a JSON object"),
        ("no type", UsageError, "unknown model_type 'None'"),
        ("type", UsageError, "did you mean: vit"),
        ("types", DataError, "model_type is"),
        ("value", DataError, "not a configuration of vit"),
        ("shape", UsageError, r"weights do not fit: layers.0\S+ is \[32"),
        ("pickle", UsageError, "only pytorch_model.bin, and loading that could run code"),
        ("no weights", UsageError, "no safetensors"),
        ("cut", DataError, "model.safetensors"),
        ("noise", DataError, "model.safetensors"),
        ("missing", UsageError, "lacks 1 tensors of vit: layernorm.weight"),
    ],
)
def test_damaged_checkpoints_are_told(tmp_path, how, error, words):
    checkpoint(tmp_path)
    damage(tmp_path, how)
    with pytest.raises(error, match=words):
        load(f"hf:{tmp_path}")


# ------------------------------------------------------------------- the cache and the hub


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_from_the_cache(cache):
    commit = "0123456789" * 4
    root = cache / "models--owner--name"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    theirs = checkpoint(root / "snapshots" / commit)
    for name in ("hf:owner/name", "hf:owner/name@main", f"hf:owner/name@{commit}"):
        ours = load(name).eval()
        assert torch.equal(
            ours({"image": pixels()}).pooled, theirs(pixel_values=pixels()).last_hidden_state[:, 0]
        )


def test_neither_in_the_cache_nor_on_the_hub(cache):
    with pytest.raises(UsageError, match="not in the cache and the hub cannot be reached") as caught:
        load("hf:owner/name")
    assert str(cache) in str(caught.value) and "hf download owner/name" in str(caught.value)


def test_a_half_fetched_checkpoint_is_fetched_again(tmp_path, monkeypatch):
    half, whole = tmp_path / "half", tmp_path / "whole"
    half.mkdir()
    (half / "config.json").write_text("{}")
    checkpoint(whole)
    asked = []

    def snapshot(repository, revision, *, allow_patterns, local_files_only=False, **options):
        asked.append((repository, revision, local_files_only))
        assert not any(p.endswith((".bin", ".pkl", ".py")) or p == "*" for p in allow_patterns)
        return str(half if local_files_only else whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load("hf:owner/name@v1").width == 16
    assert asked == [("owner/name", "v1", True), ("owner/name", "v1", False)]


def answer(kind, status):
    http = pytest.importorskip(errors.HTTPError.__module__.partition(".")[0])
    return kind("…", response=http.Response(status, request=http.Request("GET", "https://huggingface.co")))


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (lambda: answer(errors.RepositoryNotFoundError, 404), "owner/name is not on the hub, or is private"),
        (lambda: answer(errors.GatedRepoError, 403), "gated(.|\n)*HF_TOKEN"),
        (lambda: answer(errors.RevisionNotFoundError, 404), "has no revision 'v9'"),
        (lambda: answer(errors.HfHubHTTPError, 401), "answered 401(.|\n)*HF_TOKEN"),
        (lambda: answer(errors.HfHubHTTPError, 403), "answered 403(.|\n)*HF_TOKEN"),
        (lambda: answer(errors.HfHubHTTPError, 503), "answered 503(.|\n)*later"),
        (lambda: errors.LocalEntryNotFoundError("…"), "cannot be reached"),
        (lambda: errors.HTTPError("lost"), "cannot be reached"),
    ],
)
def test_answers_of_the_hub(cache, monkeypatch, raised, words):
    def snapshot(*_, local_files_only=False, **__):
        raise errors.LocalEntryNotFoundError("…") if local_files_only else raised()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UsageError, match=words):
        load("hf:owner/name@v9")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:./nowhere", "no folder ./nowhere"),
        ("hf:", "names nothing"),
        ("hf:a/b/c", "names nothing"),
        ("hf:own er/name", "names nothing"),
    ],
)
def test_names_that_name_nothing(cache, name, words):
    with pytest.raises(UsageError, match=words):
        load(name)


def test_hf_is_a_prefix_and_not_a_module():
    build = construct("backbone", Spec(name="hf:a/b"), BACKBONES, of=nn.Module, channels=1, size=8)
    assert build.keywords == {"name": "hf:a/b", "channels": 1, "size": 8}  # nothing is loaded yet
    with pytest.raises(UsageError, match="unknown backbone 'hf'"):
        construct("backbone", Spec(name="hf"), BACKBONES)
    with pytest.raises(UsageError, match="did you mean: readout"):
        construct("backbone", Spec(name="hf:a/b", readuot="cls"), BACKBONES, channels=1, size=8)


def test_images_are_stored_as_large_as_a_checkpoint_wants_them(tmp_path, monkeypatch):
    from transformers import ViTConfig, ViTModel

    monkeypatch.chdir(tmp_path)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                       image_size=24, patch_size=8)  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained("vit")
    for pixels, size in ({}, 24), ({"pixels": {"size": 16}}, 8):
        run = jichu.finetune(
            "hf:./vit", "sklearn:digits", channels=3, adapt="head", budget="1 steps", **pixels
        )
        assert run._loaded[1].image.size == size
