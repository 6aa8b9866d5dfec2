"""Weights laid out for products: the same answers, and a model that stays as it was."""

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from jichu.models.packed import can_pack, packed

pytestmark = pytest.mark.skipif(not can_pack(nn.Linear(8, 8)), reason="torch without oneDNN")


def networks():
    torch.manual_seed(0)
    own = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24, bias=False))
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=24, n_layer=2, n_head=2, n_positions=40)).eval()
    return [
        (own, torch.randn(3, 7, 24), lambda y: y),
        (gpt, torch.randint(50, (4, 30)), lambda y: y.logits),
    ]


@pytest.mark.parametrize("model, x, of", networks(), ids=["linear", "gpt2"])
def test_answers_are_those_of_the_model(model, x, of):
    with torch.no_grad():
        expected = of(model(x))
        with packed(model):
            found, few = of(model(x)), of(model(x[:1, :2]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(few, of(model(x[:1, :2])))  # too few for other products
        assert torch.equal(of(model(x)), expected)  # as before
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_products_are_of_the_copies():
    """Else nothing here would show more than that nothing was changed."""
    layer = nn.Linear(16, 16)
    x = torch.randn(10, 16)
    with torch.no_grad():
        before = layer(x)
        with packed(layer):
            layer.weight.zero_()
            torch.testing.assert_close(layer(x), before, rtol=1e-4, atol=1e-5)
        assert torch.equal(layer(x), layer.bias.expand(10, 16))


def test_gradients_and_copies_are_those_of_the_model():
    layer = nn.Sequential(nn.Linear(16, 4))
    x = torch.randn(10, 16)
    with packed(layer):
        twin = copy.deepcopy(layer)
        layer(x).sum().backward()
        with torch.no_grad():
            twin[0].weight.zero_()
            assert torch.equal(twin(x), twin[0].bias.expand(10, 4))
    torch.testing.assert_close(layer[0].weight.grad, x.sum(0).expand(4, 16))


def test_what_cannot_be_packed():
    assert not can_pack(nn.Conv2d(3, 3, 3))
    assert not can_pack(nn.Linear(8, 8).double())
    assert not can_pack(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)))
    with packed(nn.Conv2d(3, 3, 3)) as nothing:
        assert nothing is None
