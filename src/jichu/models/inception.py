"""Inception v3 (Szegedy et al., 2015, arXiv 1512.00567), with the state-dict names of torchvision's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone, Features
from .common import Rate, Width, he_init, refuse_below

Kernel = int | tuple[int, int]
# The convolutions of a block by name: what each looks at, its width, kernel, stride. `x` is the input of the
# block and `pool` that input pooled; what no other one looks at is put side by side.
Block = Mapping[str, tuple[str, int, Kernel] | tuple[str, int, Kernel, int]]


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, before: int, width: int, kernel: Kernel, stride: int = 1, *, padded: bool = True):
        super().__init__()
        high, wide = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (high // 2, wide // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(before, width, (high, wide), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A block. Where no convolution looks at what is pooled, the block halves the side of its maps."""

    def __init__(self, before: int, block: Block, base: int):
        super().__init__()
        widths = {"x": before, "pool": before}
        for name, (source, width, kernel, *stride) in block.items():
            widths[name] = width * base // 16
            self.add_module(f"branch{name}", ConvNorm(widths[source], widths[name], kernel, *stride))
        self.sources = {name: step[0] for name, step in block.items()}
        self.ends = [name for name in [*block, "pool"] if name not in self.sources.values()]
        self.halves = "pool" in self.ends
        self.width = sum(widths[name] for name in self.ends)

    def forward(self, x: Tensor) -> Tensor:
        done = {"x": x, "pool": F.max_pool2d(x, 3, 2) if self.halves else F.avg_pool2d(x, 3, 1, 1)}
        for name, source in self.sources.items():
            done[name] = self.get_submodule(f"branch{name}")(done[source])
        return torch.cat([done[name] for name in self.ends], 1)


def _fine(pooled: int) -> Block:
    return {
        "1x1": ("x", 64, 1),
        "5x5_1": ("x", 48, 1), "5x5_2": ("5x5_1", 64, 5),
        "3x3dbl_1": ("x", 64, 1), "3x3dbl_2": ("3x3dbl_1", 96, 3), "3x3dbl_3": ("3x3dbl_2", 96, 3),
        "_pool": ("pool", pooled, 1),
    }  # fmt: skip


def _middle(inner: int) -> Block:
    return {
        "1x1": ("x", 192, 1),
        "7x7_1": ("x", inner, 1), "7x7_2": ("7x7_1", inner, (1, 7)), "7x7_3": ("7x7_2", 192, (7, 1)),
        "7x7dbl_1": ("x", inner, 1), "7x7dbl_2": ("7x7dbl_1", inner, (7, 1)),
        "7x7dbl_3": ("7x7dbl_2", inner, (1, 7)), "7x7dbl_4": ("7x7dbl_3", inner, (7, 1)),
        "7x7dbl_5": ("7x7dbl_4", 192, (1, 7)),
        "_pool": ("pool", 192, 1),
    }  # fmt: skip


_COARSE: Block = {
    "1x1": ("x", 320, 1),
    "3x3_1": ("x", 384, 1), "3x3_2a": ("3x3_1", 384, (1, 3)), "3x3_2b": ("3x3_1", 384, (3, 1)),
    "3x3dbl_1": ("x", 448, 1), "3x3dbl_2": ("3x3dbl_1", 384, 3),
    "3x3dbl_3a": ("3x3dbl_2", 384, (1, 3)), "3x3dbl_3b": ("3x3dbl_2", 384, (3, 1)),
    "_pool": ("pool", 192, 1),
}  # fmt: skip
_BLOCKS: dict[str, Block] = {
    "5b": _fine(32), "5c": _fine(64), "5d": _fine(64),
    "6a": {
        "3x3": ("x", 384, 3, 2),
        "3x3dbl_1": ("x", 64, 1), "3x3dbl_2": ("3x3dbl_1", 96, 3), "3x3dbl_3": ("3x3dbl_2", 96, 3, 2),
    },
    "6b": _middle(128), "6c": _middle(160), "6d": _middle(160), "6e": _middle(192),
    "7a": {
        "3x3_1": ("x", 192, 1), "3x3_2": ("3x3_1", 320, 3, 2),
        "7x7x3_1": ("x", 192, 1), "7x7x3_2": ("7x7x3_1", 192, (1, 7)), "7x7x3_3": ("7x7x3_2", 192, (7, 1)),
        "7x7x3_4": ("7x7x3_3", 192, 3, 2),
    },
    "7b": _COARSE, "7c": _COARSE,
}  # fmt: skip


class InceptionV3(Backbone):
    """Convolutions of several shapes side by side, large ones taken apart into small ones; without the
    second classifier half-way. Images from 75 pixels; the paper's have 299. Every width is a multiple
    of `base`."""

    def __init__(self, channels: int, size: int, base: Width = 16, dropout: Rate = 0.5):
        super().__init__()
        refuse_below(75, size, "inception-v3", "resnet18")
        self.Conv2d_1a_3x3 = ConvNorm(channels, 2 * base, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(2 * base, 2 * base, 3, padded=False)
        self.Conv2d_2b_3x3 = ConvNorm(2 * base, 4 * base, 3)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = ConvNorm(4 * base, 5 * base, 1)
        self.Conv2d_4a_3x3 = ConvNorm(5 * base, 12 * base, 3, padded=False)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.width = 12 * base
        for name, block in _BLOCKS.items():
            mixed = Mixed(self.width, block, base)
            self.add_module(f"Mixed_{name}", mixed)
            self.width = mixed.width
        self.dropout = nn.Dropout(dropout)
        he_init(self)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(batch["image"])))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x))))
        for name in _BLOCKS:
            x = self.get_submodule(f"Mixed_{name}")(x)
        return Features(self.dropout(x.mean((2, 3))), maps=x)
