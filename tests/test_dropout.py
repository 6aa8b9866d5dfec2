"""Dropout against torch's own: the same distribution, gradient and modes."""

import pytest
import torch
from torch import nn

from jichu.models.dropout import Dropout, quicken


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_each_value_is_dropped_by_itself(p, kind):
    torch.manual_seed(0)
    x = torch.ones(401, 503, dtype=kind, requires_grad=True)
    y = Dropout(p)(x)
    assert set(y.unique().tolist()) == {
        0.0,
        torch.tensor(1 / (1 - round(p * 2**16) / 2**16), dtype=kind).item(),
    }
    n, kept = y.numel(), (y != 0).double()
    assert abs(kept.mean().item() - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    centred = (kept - kept.mean()).flatten()
    for apart in (1, 2, 3, 4, 5, 503):  # four values are of one draw
        assert abs((centred[apart:] * centred[:-apart]).mean().item()) < 5 * p * (1 - p) / n**0.5
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_what_it_leaves_to_torch():
    x = torch.randn(4, 6)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    for other in (x.t(), x[:, ::2]):
        torch.manual_seed(1)
        found = Dropout(0.5)(other)
        torch.manual_seed(1)
        assert torch.equal(found, nn.Dropout(0.5)(other))
    assert Dropout(0.5)(torch.empty(0, 3)).shape == (0, 3)


def test_other_libraries_layers_are_quickened():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3), nn.Dropout2d(0.2)))
    seen = []
    layers[1][0].register_forward_hook(lambda *_: seen.append(1))
    before = layers.state_dict().keys()
    quicken(layers)
    assert [type(m) for m in layers[1]] == [Dropout, nn.Dropout2d] and layers[1][0].p == 0.3
    layers.eval()(torch.ones(1, 2, 1, 2))
    assert seen == [1] and layers.state_dict().keys() == before
