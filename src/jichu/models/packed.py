"""Weights of matrix products laid out once as the processor multiplies by them fastest, for a model that only answers.

What torch takes by default was made for processors of one maker; oneDNN, which it also has, was seen to take 0.4 of the
time on those of another, in the same precision. Which is faster here is for whoever asks to measure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_FEW = 8  # rows; fewer are multiplied by the weights as they are


def can_pack(model: nn.Module) -> bool:
    """Whether anything in a model could be laid out so."""
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return known and any(_weight(layer) is not None for layer in model.modules())


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """While the block runs, layers multiply by copies laid out so. The weights stay, for gradients and for copies of the
    model, and are not to be changed."""
    laid: list[Any] = []
    try:
        layer: Any
        for layer in model.modules():
            weight = _weight(layer)
            if weight is not None:
                layer.forward = _Product(layer.forward, weight, layer.bias)
                laid.append(layer)
        yield
    finally:
        for layer in laid:
            del layer.forward


def _weight(layer: Any) -> Tensor | None:
    """[out, in], of a layer that does nothing but multiply by it."""
    transposed = type(layer).__name__ == "Conv1D"  # the dense layers of GPT-2
    if not (transposed or type(layer) is nn.Linear) or "forward" in vars(layer):
        return None
    weight: Tensor = layer.weight.t() if transposed else layer.weight
    fits = weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.numel()
    return weight if fits else None


class _Product:
    """A layer's forward pass."""

    def __init__(self, plain: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor | None):
        self._plain, self._bias = plain, bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._plain, memo)  # which belongs to the copied layer

    def __call__(self, x: Tensor) -> Tensor:
        few = x.numel() < _FEW * x.shape[-1]
        if few or x.dtype != torch.float32 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return self._plain(x)
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
