"""Two thin layers in the place of a wide one (Denil et al., 2013, arXiv 1306.0543)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .cut import is_crosswise, sizes


class LowRank(nn.Sequential):
    """`rank` numbers between inputs and outputs: a dense layer to them and one from them. Of a convolution the first
    has its kernel, and the second is 1×1."""

    @property
    def weight(self) -> Tensor:
        """Both as one, [outputs, inputs, …]."""
        parts: list[Any] = list(self)
        first, second = (layer.weight for layer in parts)
        return torch.einsum("or,ri...->oi...", second.flatten(1), first)


def empty(layer: Any, rank: int) -> LowRank:
    """Two layers for one, with fresh weights."""
    inputs, outputs = sizes(layer)
    bias = layer.bias is not None
    if not isinstance(layer, nn.Conv2d):
        return LowRank(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias))
    how: dict[str, Any] = {
        key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    first = nn.Conv2d(inputs, rank, bias=False, **how)
    return LowRank(first, nn.Conv2d(rank, outputs, 1, bias=bias))


def matrix(layer: Any) -> Tensor:
    """The weight as [outputs, inputs × places of the kernel]."""
    return layer.weight.T if is_crosswise(layer) else layer.weight.flatten(1)


@torch.no_grad()
def factored(layer: Any, rank: int) -> LowRank:
    """The two layers of that rank nearest to a layer, by its singular values (Eckart and Young, 1936)."""
    u, s, v = torch.linalg.svd(matrix(layer).double(), full_matrices=False)
    root = s[:rank].sqrt()
    found = empty(layer, rank)
    parts: list[Any] = list(found)
    first, second = parts
    for part, values in ((second, u[:, :rank] * root), (first, root[:, None] * v[:rank])):
        part.weight.copy_(values.view_as(part.weight))
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return found


def replace(backbone: nn.Module, name: str, by: nn.Module) -> None:
    """Another module in the place of one."""
    above, _, own = name.rpartition(".")
    setattr(backbone.get_submodule(above), own, by)


def rebuild(backbone: nn.Module, ranks: Mapping[str, int]) -> None:
    """Two fresh layers of that rank in the place of each of these. Done twice it is done once."""
    for name, rank in ranks.items():
        layer = backbone.get_submodule(name)
        if not isinstance(layer, LowRank):
            replace(backbone, name, empty(layer, rank))
