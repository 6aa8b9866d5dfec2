"""What is cut out of a network is as if it had been zero, for every backbone that can be cut."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given as supposing
from hypothesis import strategies as st
from torch import nn

from jichu.compression.base import Subject
from jichu.compression.importance import least, taylor
from jichu.compression.importance import loss as loss_of
from jichu.compression.structured import Structured, remove
from jichu.compression.tracing import trace
from jichu.core.errors import JichuError, UsageError
from jichu.core.files import read_json, write_json
from jichu.data.decode import Preprocess
from jichu.data.schema import TableSchema
from jichu.data.special import Special, TextInputs
from jichu.data.target import Target
from jichu.models import cut
from jichu.models.folder import ModelConfig, load, save
from jichu.objectives.supervised import Classification

TARGET = Target("kind", "classification", ("a", "b", "c"), (1, 1, 1))


def images(size=32, channels=3):
    pixels = torch.randint(0, 256, (4, channels, size, size), generator=torch.Generator().manual_seed(0))
    return {"image": pixels.to(torch.uint8), "label": torch.tensor([0, 1, 2, 0]), "row": torch.arange(4)}


def texts(length=9):
    tokens = torch.randint(5, 40, (4, length), generator=torch.Generator().manual_seed(0))
    tokens[1, 5:] = -1
    return {"tokens": tokens, "label": torch.tensor([0, 1, 2, 0]), "row": torch.arange(4)}


def tables():
    numbers = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    numbers[0, 0] = torch.nan
    categories = torch.tensor([[0, 1], [1, 2], [0, 0], [2, 1]])
    labels = torch.tensor([0, 1, 2, 0])
    return {"numbers": numbers, "categories": categories, "label": labels, "row": torch.arange(4)}


COLUMNS = TableSchema(numbers=tuple("vwxyz"), categories={"p": ("1", "2"), "q": ("1", "2")})


def _fill(model):
    """Statistics and scales that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            layer.running_var.add_(torch.rand(layer.running_var.shape, generator=generator))
        elif isinstance(getattr(layer, "bias", None), nn.Parameter):
            layer.bias.data.add_(0.3 * torch.randn(layer.bias.shape, generator=generator))
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:
            parameter.data.add_(0.5)


def subject(backbone, batch):
    about = {"heads": {"label": {"name": "linear"}}, "targets": {"label": TARGET}}
    if "image" in batch:
        about["image"] = Preprocess(batch["image"].shape[2], batch["image"].shape[1], "crop")
    if "tokens" in batch:
        about["text"] = TextInputs(40, 16, Special(pad=0, end=2))
    if "numbers" in batch:
        about["table"] = COLUMNS
    config = ModelConfig(backbone, **about)
    torch.manual_seed(0)
    model = config.build().eval()
    _fill(model)
    model.inputs.estimate(batch, torch.arange(4))
    return Subject(model, config, Classification(), lambda: [batch])


def answers(model, batch):
    with torch.no_grad():
        return model(batch)["label"]


def zeroed(model, units, widths):
    """A copy in which all that makes the outputs of some units is zero."""
    model = copy.deepcopy(model)
    layers = dict(model.named_modules())
    with torch.no_grad():
        for unit in units:
            for name, block in unit.outputs:
                layer, places = layers[name], slice(block * widths[name], (block + 1) * widths[name])
                layer.weight.movedim(cut.output_axis(layer), 0)[places] = 0
                if layer.bias is not None:
                    layer.bias[places] = 0
            for name, channel in unit.inputs:
                if cut.is_follower(layers[name]):
                    layers[name].weight[channel] = 0
                    if layers[name].bias is not None:
                        layers[name].bias[channel] = 0
    return model


SMALL = {"width": 32, "depth": 2, "heads": 4}
NETWORKS = [
    *(({"name": n, "base": 4, "hidden": 12}, images()) for n in ("vgg11", "vgg13-bn", "vgg16", "vgg19-bn")),
    ({"name": "vgg11-bn", "base": 4, "classifier": False}, images()),
    ({"name": "alexnet", "base": 8, "hidden": 12}, images()),
    ({"name": "resnet18", "base": 4}, images()),
    ({"name": "resnet34", "base": 4, "stem": "large"}, images(64)),
    ({"name": "resnet50", "base": 4}, images()),
    *(({"name": "resnet9", "base": 4, "activation": a}, images()) for a in ("relu", "celu", "gelu")),
    ({"name": "cnn", "widths": [6, 8, 10]}, images()),
    ({"name": "cnn", "widths": [6, 8], "norm": "none", "readout": "flatten", "hidden": [9, 7]}, images()),
    ({"name": "mlp", "widths": [12, 9], "norm": "batch"}, images(8, 1)),
    ({"name": "mlp", "widths": [12, 9], "numeric": "periodic"}, tables()),
    ({"name": "densenet121", "growth": 2, "stem": "large"}, images()),
    ({"name": "small-convnext", "widths": [8, 12], "depths": [1, 1], "layer_scale": 0.5}, images()),
    ({"name": "convnext", "widths": [8, 12], "depths": [1, 1]}, images()),
    ({"name": "vit", "patch": 8, **SMALL}, images()),
    ({"name": "ft-transformer", "width": 16, "depth": 2, "heads": 4}, tables()),
    ({"name": "bert", **SMALL}, texts()),
    ({"name": "gpt", **SMALL}, texts()),
    ({"name": "llama", **SMALL, "kv_heads": 2}, texts()),
    ({"name": "t5", **SMALL}, texts()),
]


@pytest.mark.parametrize("backbone, batch", NETWORKS, ids=lambda x: x.get("name", ""))
def test_what_is_cut_was_zero(backbone, batch, tmp_path):
    """With the outputs of some units zero a network answers as without them; and it is loaded as it was cut."""
    given = subject(backbone, batch)
    model, found = given.model, trace(given.model, batch)
    picked = [unit for units in found.families.values() for unit in units[: len(units) // 2]]
    assert picked
    expected = answers(zeroed(model, picked, found.widths), batch)
    assert not torch.allclose(expected, answers(model, batch), atol=1e-5)
    before = sum(p.numel() for p in model.parameters())
    layers = remove(model, picked, found.widths)
    torch.testing.assert_close(answers(model, batch), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) < before
    config = replace(given.config, changes=[{"name": "cut", "layers": layers, "width": model.backbone.width}])
    save(tmp_path, model, config)
    again, read = load(tmp_path)
    assert read.changes == config.changes and torch.equal(answers(again, batch), answers(model, batch))


@pytest.mark.parametrize("name", ["vit", "bert", "gpt", "llama", "ft-transformer"])
def test_heads_of_attention_go_as_a_whole(name):
    """With queries, keys and values; of Llama the queries that share keys and values with them."""
    backbone, batch = next(pair for pair in NETWORKS if pair[0]["name"] == name)
    given = subject(backbone, batch)
    found = trace(given.model, batch)
    heads = [u for units in found.families.values() for u in units if found.widths[u.outputs[0].name] > 1]
    head_size, kept = (4, 4) if name == "ft-transformer" else (8, 2 if name == "llama" else 4)
    assert len(heads) == 2 * kept and set(found.widths.values()) == {1, head_size}
    queries = 4 // kept  # of each head of keys
    assert all(len(u.outputs) == queries + 2 and len(u.inputs) == queries * head_size for u in heads)


def test_what_adds_up_goes_together():
    """Channels of a residual stream are one family, those inside a block one each."""
    found = trace(subject({"name": "resnet18", "base": 4}, images()).model, images())
    stream = next(names for names in found.families if "backbone.conv1" in names)
    assert stream == ("backbone.conv1", "backbone.layer1.0.conv2", "backbone.layer1.1.conv2")
    assert ("backbone.layer1.0.conv1",) in found.families
    assert {len(units) for units in found.families.values()} == {4, 8, 16, 32}


@pytest.mark.parametrize(
    "by, scope", [("l1", "layer"), ("l1", "global"), ("taylor", "layer"), ("taylor", "global")]
)
def test_the_step_tells_what_it_removed(by, scope):
    given = subject({"name": "cnn", "widths": [6, 8, 10]}, images())
    Structured(0.5, by=by, scope=scope).begin(given)
    (change,) = given.config.changes
    left = [
        change["layers"][f"blocks.{i}.0"][1] if f"blocks.{i}.0" in change["layers"] else n
        for i, n in enumerate((6, 8, 10))
    ]
    assert sum(left) == 12 and (scope == "global" or left == [3, 4, 5])
    assert given.model.backbone.width == change["width"] == left[2]
    assert given.model(images())["features"].pooled.shape == (4, left[2])


def test_the_smallest_filters_go():
    given = subject({"name": "cnn", "widths": [4, 6], "norm": "none"}, images())
    with torch.no_grad():
        given.model.backbone.blocks[0][0].weight[1] *= 0.01
        given.model.backbone.blocks[0][0].weight[3] *= 0.1
        kept = given.model.backbone.blocks[0][0].weight[[0, 2]].clone()
    Structured(0.5, layers="backbone.blocks.0.*").begin(given)
    assert torch.equal(given.model.backbone.blocks[0][0].weight, kept)
    assert given.config.changes[0]["layers"] == {"blocks.0.0": [3, 2], "blocks.1.0": [2, 6]}


def test_taylor_is_the_first_order_change_of_the_loss():
    """Of a network that is linear in a unit it is the change itself."""
    batch = images(8, 1)
    given = subject({"name": "mlp", "widths": [5]}, batch)
    found = trace(given.model, batch)
    (units,) = found.families.values()
    weigh = taylor(given, found, [batch])
    layer, loss = given.model.backbone.layers[0], lambda: loss_of(given, batch, 0)
    for unit in units:
        row, (at,) = layer.weight.data, (place.number for place in unit.outputs)
        whole, small = row[at].clone(), 1e-3
        before = loss()
        row[at] = (1 - small) * whole
        slope = ((before - loss()) / small).item()
        row[at] = whole
        assert float(weigh(unit)) == pytest.approx(slope**2, rel=0.05, abs=1e-6)


@supposing(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), min_size=1, max_size=4),
    st.floats(0.01, 0.99),
    st.sampled_from(["layer", "global"]),
)
def test_of_each_family_the_best_stays(values, amount, scope):
    scores = {(str(i),): torch.tensor(row) for i, row in enumerate(values)}
    gone = least(scores, amount, scope)
    assert len(set(gone)) == len(gone)
    for names, score in scores.items():
        mine = [i for family, i in gone if family == names]
        left = [float(v) for i, v in enumerate(score) if i not in mine]
        assert left and max(left) == float(score.max())
        if scope == "layer":
            assert len(mine) == min(int(amount * len(score) + 1e-9), len(score) - 1)


@pytest.mark.parametrize(
    "backbone, batch, settings, told",
    [
        (
            {"name": "lstm-text", "width": 8},
            texts(),
            {},
            "nothing of LstmText can be removed",
        ),
        ({"name": "cnn", "widths": [8, 8], "norm": "group"}, images(), {}, "nothing of Cnn can be removed"),
        ({"name": "cnn"}, images(), {"layers": "backbone.block.0"}, "did you mean: backbone.blocks"),
        ({"name": "cnn"}, images(), {"layers": "("}, "not a regular expression"),
        ({"name": "cnn", "widths": [2, 2]}, images(), {"amount": 0.2}, "of no layer is one whole"),
        ({"name": "resnet18", "base": 4}, images(), {"layers": "backbone.conv1"}, "go together"),
    ],
)
def test_what_cannot_be_cut_is_refused(backbone, batch, settings, told):
    given = subject(backbone, batch)
    before = copy.deepcopy(given.model.state_dict())
    with pytest.raises(UsageError) as caught:
        Structured(**{"amount": 0.5, **settings}).begin(given)
    assert told in str(caught.value)
    assert all(torch.equal(t, before[n]) for n, t in given.model.state_dict().items())


def test_a_damaged_account_of_changes_is_told(tmp_path):
    given = subject({"name": "cnn", "widths": [6, 8]}, images())
    Structured(0.5).begin(given)
    save(tmp_path, given.model, given.config)
    for wrong in ({"name": "cat"}, {"name": "cut", "layers": {"blocks.9": [1, 1]}, "width": 3},
                  {"name": "cut", "layers": {"blocks.0.0": [3, 99]}, "width": 3},
                  {"name": "cut", "layers": {"blocks.0.0": [3, 0]}, "width": 3}, {"name": "cut"}):  # fmt: skip
        config = read_json(tmp_path / "config.json") | {"changes": [wrong]}
        write_json(tmp_path / "config.json", config)
        with pytest.raises(JichuError) as caught:
            load(tmp_path)
        assert "change" in str(caught.value)
