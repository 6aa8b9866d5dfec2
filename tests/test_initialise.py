"""Initialisations against closed forms; what activations and gradients foretell, on networks known to fail."""

import copy
import math

import pytest
import torch
from torch import nn

from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.models import BACKBONES
from jichu.models.initialise import initialise
from jichu.models.model import Model
from jichu.models.statistics import layer_statistics, warnings


def layers():
    """A dense layer of 300 → 200, and a 3×3 convolution of 40 → 60 maps: fans 360 and 540."""
    return nn.Sequential(nn.Linear(300, 200), nn.Conv2d(40, 60, 3), nn.BatchNorm2d(60), nn.LayerNorm(7))


@pytest.mark.parametrize(
    ("name", "arguments", "dense", "convolution"),
    [
        ("xavier-uniform", {"nonlinearity": "linear"}, 2 / 500, 2 / 900),
        ("xavier-normal", {"nonlinearity": "tanh"}, 2 / 500 * 25 / 9, 2 / 900 * 25 / 9),
        ("he-uniform", {}, 2 / 300, 2 / 360),
        ("he-normal", {}, 2 / 300, 2 / 360),
        ("he-normal", {"fan": "out"}, 2 / 200, 2 / 540),
        ("he-normal", {"nonlinearity": "linear"}, 1 / 300, 1 / 360),
        # of a normal cut at two deviations: 1 - 2 · 2φ(2) / (2Φ(2) - 1)
        ("truncated-normal", {}, 0.02**2 * 0.7737, 0.02**2 * 0.7737),
    ],
)
def test_variances(name, arguments, dense, convolution):
    torch.manual_seed(0)
    network = layers()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 3)
    initialise(network, name, **arguments)
    for weight, variance in ((network[0].weight, dense), (network[1].weight, convolution)):
        assert weight.var().item() == pytest.approx(variance, rel=0.04)
        assert abs(weight.mean().item()) < 4 * math.sqrt(variance / weight.numel())
        if "uniform" in name:
            assert weight.abs().max().item() == pytest.approx(math.sqrt(3 * variance), rel=0.01)
    for module in network:
        assert module.bias.eq(0).all()
    assert network[2].weight.eq(1).all() and network[3].weight.eq(1).all()


def test_orthogonal():
    network = layers()
    initialise(network, "orthogonal", nonlinearity="linear")
    rows, maps = network[0].weight, network[1].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(200), atol=1e-4, rtol=0)
    torch.testing.assert_close(maps @ maps.T, torch.eye(60), atol=1e-4, rtol=0)
    initialise(network, "orthogonal")
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(200), atol=1e-4, rtol=0)


def backbone(name, channels=3, size=16, **arguments):
    return construct("backbone", Spec(name=name, **arguments), BACKBONES, channels=channels, size=size)()


def test_default_and_zero_residual():
    torch.manual_seed(0)
    network = backbone("resnet18", base=4)
    before = copy.deepcopy(network.state_dict())
    initialise(network, "default")
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    initialise(network, "default", zero_residual=True)
    changed = {n for n, t in network.state_dict().items() if not torch.equal(before[n], t)}
    assert changed == {f"layer{i}.{j}.bn2.weight" for i in range(1, 5) for j in range(2)}
    block, x = network.get_submodule("layer1.1").eval(), torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)  # of what is not negative the identity


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"name": "he-normall"}, "did you mean: he-normal"), ({"zero_residual": True}, "no residual")],
)
def test_wrong_names(arguments, words):
    with pytest.raises(UsageError, match=words):
        initialise(layers(), **{"name": "default", **arguments})


# ------------------------------------------------------------------- statistics


class Deep(nn.Module):
    def __init__(self, depth=20, width=256):
        super().__init__()
        parts = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
        self.layers = nn.Sequential(*parts, nn.Linear(width, 10))

    def forward(self, batch):
        return {"label": self.layers(batch["x"])}


def deep(std):
    torch.manual_seed(0)
    network = Deep()
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
    return network


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_a_deep_network_by_its_scale():
    """Each ReLU layer multiplies the mean square by width × std² / 2, forward and backward alike."""
    batch = {"x": noise(64, 256)}
    for std, words in ((0.01, "vanish"), (1.0, "explode")):
        report = layer_statistics(deep(std), batch)
        weighted = [layer for layer in report if layer.weighted]
        ratio = math.sqrt(256 * std**2 / 2)
        grown = (weighted[-2].std / weighted[1].std) ** (1 / 18)
        assert grown == pytest.approx(ratio, rel=0.05)
        back = (weighted[1].gradient_std / weighted[-2].gradient_std) ** (1 / 18)
        assert back == pytest.approx(ratio, rel=0.05)
        said = warnings(report)
        assert [w.split()[:2] for w in said] == [["activations", f"{words}:"], ["gradients", f"{words}:"]]
        assert all("he-normal" in w for w in said)
    healed = deep(1.0)
    initialise(healed, "he-normal")
    assert warnings(layer_statistics(healed, batch)) == []


def test_what_a_layer_says():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]))
        network[0].bias.copy_(torch.tensor([0.0, 0, 0, -1]))
    x = torch.tensor([[1.0, -2, 3], [2, -3, -4]])
    dense, relu = layer_statistics(network, x, lambda out: out.sum())
    assert (dense.name, dense.type, dense.weighted, relu.weighted) == ("0", "Linear", True, False)
    out = torch.cat([x, -torch.ones(2, 1)], 1)
    assert dense.mean == pytest.approx(out.mean().item()) and dense.std == pytest.approx(out.std().item())
    assert (dense.zeros, relu.zeros, relu.dead) == (0, 5 / 8, 2 / 4)
    passed = (out > 0).float()
    assert dense.gradient_std == pytest.approx(passed.std().item())
    assert dense.weight_gradient == pytest.approx((passed.T @ x).norm().item())
    assert relu.gradient_std == 0  # of a sum it is one everywhere


def test_dead_units_are_told():
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    nn.init.constant_(network[0].bias, -100)
    said = warnings(layer_statistics(network, noise(8, 16)))
    assert any(w.startswith("100% of the units of 1 are zero for every row") for w in said)


def test_numbers_that_are_not_finite_are_told():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.constant_(network[0].weight, 1e38)
    assert (
        "0 gives numbers that are not finite"
        in warnings(layer_statistics(network, 100 * torch.ones(8, 4)))[0]
    )


def test_a_plain_vgg_on_noise():
    """PyTorch's own initialisation shrinks each layer to 0.41 of the one before; He's does not."""
    torch.manual_seed(0)
    network = backbone("cnn", widths=[8, 16] + [32] * 6, norm="none")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.bias)
    batch = {"image": noise(8, 3, 16, 16)}
    said = warnings(layer_statistics(network, batch))
    assert any(w.startswith("activations vanish") for w in said)
    initialise(network, "he-normal")
    assert warnings(layer_statistics(network, batch)) == []
    normed = backbone("cnn", widths=[8, 16] + [32] * 6)
    assert warnings(layer_statistics(normed, batch)) == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_found(fails):
    torch.manual_seed(0)
    model = Model(backbone("resnet18", base=4), {"label": torch.nn.Identity()})
    model.backbone.get_submodule("layer2").eval()
    model.backbone.conv1.weight.requires_grad_(False)
    model.backbone.bn1.weight.grad = torch.ones(4)
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    batch = {"image": noise(4, 3, 16, 16)}

    def loss(outputs):
        if fails:
            raise RuntimeError("fails")
        torch.rand(3)
        return outputs["features"].pooled.square().mean()

    if fails:
        with pytest.raises(RuntimeError, match="fails"):
            layer_statistics(model, batch, loss)
    else:
        assert len(layer_statistics(model, batch, loss)) > 40
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert modes == [m.training for m in model.modules()] and torch.equal(state, torch.get_rng_state())
    grads = {n for n, p in model.named_parameters() if p.grad is not None}
    assert grads == {"backbone.bn1.weight"} and model.backbone.bn1.weight.grad.eq(1).all()
    assert not any(m._forward_hooks for m in model.modules())
    assert not model.backbone.conv1.weight.requires_grad


def test_frozen_networks_have_no_gradients():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).requires_grad_(False)
    assert [layer.gradient_std for layer in layer_statistics(network, noise(8, 4))] == [None, None]


def test_dropout_draws_the_same_each_time():
    network = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5))
    one, two = (layer_statistics(network, noise(8, 4)) for _ in range(2))
    assert [layer.std for layer in one] == [layer.std for layer in two]
