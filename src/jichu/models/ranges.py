"""Inputs of layers rounded to 256 levels, between the ends that were seen while training.

What is computed is what a graph of int8 computes from such inputs, up to the order of sums. The ends are buffers of
the model, and `seen` tells them to whoever writes that graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 255  # the largest of them; the smallest is 0
_PART = "input_range"
_FOLLOWS = 0.01  # share by which the ends go towards those of a batch, as torch's observers do


class Range(nn.Module):
    """Rounds to unsigned 8 bits, zero being one of the levels. In training the ends follow those of each batch, by a
    moving mean (Jacob et al., 2018, arXiv 1712.05877), and gradients pass where nothing was cut off."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(torch.inf))
        self.register_buffer("high", torch.tensor(-torch.inf))

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """The first batch gives the ends, later ones move them."""
        low, high = x.float().aminmax()
        begins = self.low > self.high
        self.low.copy_(torch.where(begins, low, self.low.lerp(low, _FOLLOWS)))
        self.high.copy_(torch.where(begins, high, self.high.lerp(high, _FOLLOWS)))

    def grid(self) -> tuple[Tensor, Tensor]:
        """The step between two levels, and which level is zero."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        step = ((high - low) / LEVELS).clamp(min=torch.finfo(torch.float32).eps)
        return step, (-low / step).round().clamp(0, LEVELS).int()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel():
            self.follow(x.detach())
        step, zero = self.grid()
        return torch.fake_quantize_per_tensor_affine(x.float(), step, zero, 0, LEVELS).to(x.dtype)


def _rounded(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return (layer.input_range(given[0]), *given[1:])


def watch(model: nn.Module, names: Iterable[str]) -> None:
    """Round the inputs of these layers. Done twice it is done once."""
    for name in names:
        layer = model.get_submodule(name)
        if not hasattr(layer, _PART):
            layer.add_module(_PART, Range())
            layer.register_forward_pre_hook(_rounded)


def seen(model: nn.Module) -> dict[str, tuple[float, float]]:
    """The ends of each layer whose inputs are rounded."""
    return {
        name: (float(layer.input_range.low), float(layer.input_range.high))
        for name, layer in model.named_modules() if hasattr(layer, _PART)
    }  # fmt: skip


def forget(model: nn.Module) -> None:
    """No longer round inputs: the model is then as plain as before, with weights that 8 bits can hold."""
    for layer in [layer for layer in model.modules() if hasattr(layer, _PART)]:
        delattr(layer, _PART)
        for key, hook in list(layer._forward_pre_hooks.items()):
            if hook is _rounded:
                del layer._forward_pre_hooks[key]
