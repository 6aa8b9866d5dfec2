"""Residual networks (He et al., 2015, arXiv 1512.03385), with the state-dict names of torchvision's weights."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone, Features
from .common import Rate, Stem, Width, he_init, is_small
from .drop_path import DropPath, rising
from .initialise import zero_residual_branches


def _shortcut(before: int, after: int, stride: int) -> nn.Sequential | None:
    """A projection where the shapes differ, else nothing."""
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, drop_path: float):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(before, width, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.drop_path(self.bn2(self.conv2(x))) + shortcut)


class Bottleneck(nn.Module):
    """A 1×1, a 3×3 and a widening 1×1 convolution beside a shortcut. The stride is in the 3×3 one, as in
    torchvision's weights, and not in the first one, as in the paper."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int, drop_path: float):
        super().__init__()
        after = width * self.expansion
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample = _shortcut(before, after, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.drop_path(self.bn3(self.conv3(x))) + shortcut)


class ResNet(Backbone):
    """Four stages of blocks; `base` is the width of the first.

    The `small` stem (3×3, no pooling) is that of section 4.2 of the paper; `large` is the ImageNet one
    (7×7, stride 2, pooled). `drop_path` is the probability with which the last branch is left out in
    training, those before it less often. With `zero_init_residual` each block begins as its shortcut
    (Goyal et al., 2017).
    """

    depths: ClassVar[tuple[int, ...]]
    block: ClassVar[type[BasicBlock | Bottleneck]] = BasicBlock

    def __init__(
        self,
        channels: int,
        size: int,
        base: Width = 64,
        stem: Stem = "auto",
        drop_path: Rate = 0.0,
        zero_init_residual: bool = False,
    ):
        super().__init__()
        small = is_small(stem, size)
        self.conv1 = (
            nn.Conv2d(channels, base, 3, padding=1, bias=False)
            if small
            else nn.Conv2d(channels, base, 7, 2, padding=3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(base)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        rates = iter(rising(drop_path, sum(self.depths)))
        self.width = base
        for stage, depth in enumerate(self.depths):
            blocks = []
            for i in range(depth):
                stride = 2 if stage and i == 0 else 1
                blocks.append(self.block(self.width, base << stage, stride, next(rates)))
                self.width = (base << stage) * self.block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        he_init(self)
        if zero_init_residual:
            zero_residual_branches(self)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        x = self.maxpool(F.relu(self.bn1(self.conv1(batch["image"]))))
        for stage in range(len(self.depths)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return Features(x.mean((2, 3)), maps=x)


class ResNet18(ResNet):
    """11.7 million parameters with 1,000 classes, as torchvision counts."""

    depths = (2, 2, 2, 2)


class ResNet34(ResNet):
    """21.8 million parameters."""

    depths = (3, 4, 6, 3)


class ResNet50(ResNet):
    """25.6 million parameters."""

    depths = (3, 4, 6, 3)
    block = Bottleneck


class ResNet101(ResNet):
    """44.5 million parameters."""

    depths = (3, 4, 23, 3)
    block = Bottleneck


class ResNet152(ResNet):
    """60.2 million parameters."""

    depths = (3, 8, 36, 3)
    block = Bottleneck
