"""DenseNet (Huang et al., 2016, arXiv 1608.06993), with the state-dict names of torchvision's weights."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone, Features
from .common import Rate, Stem, Width, he_init, is_small, refuse_below


class DenseLayer(nn.Module):
    """`growth` new maps, from a 1×1 and a 3×3 convolution, beside all those that were there."""

    def __init__(self, before: int, growth: int, dropout: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(F.relu(self.norm1(x)))
        new = self.conv2(F.relu(self.norm2(new)))
        return torch.cat([x, self.dropout(new)], 1)


class DenseNet(Backbone):
    """Four blocks of dense layers; between them the maps are halved in number and in side.

    Each layer adds `growth` maps. The `large` stem is 7×7 with stride 2, pooled (images from 29
    pixels), the `small` one 3×3 (from 8). `dropout` comes after each 3×3 convolution; the paper has
    0.2 where images are few and not augmented.
    """

    depths: ClassVar[tuple[int, ...]]

    def __init__(
        self, channels: int, size: int, growth: Width = 32, dropout: Rate = 0.0, stem: Stem = "auto"
    ):
        super().__init__()
        small = is_small(stem, size)
        refuse_below(
            8 if small else 29, size, "densenet", "resnet18" if small else "its small stem, or resnet18"
        )
        width = 2 * growth
        self.features = nn.Sequential()
        self.features.conv0 = (
            nn.Conv2d(channels, width, 3, padding=1, bias=False)
            if small
            else nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        )
        self.features.norm0 = nn.BatchNorm2d(width)
        self.features.relu0 = nn.ReLU()
        if not small:
            self.features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
        for i, depth in enumerate(self.depths, 1):
            if i > 1:
                transition = nn.Sequential()
                transition.norm = nn.BatchNorm2d(width)
                transition.relu = nn.ReLU()
                transition.conv = nn.Conv2d(width, width // 2, 1, bias=False)
                transition.pool = nn.AvgPool2d(2)
                self.features.add_module(f"transition{i - 1}", transition)
                width //= 2
            block = nn.Sequential()
            for j in range(1, depth + 1):
                block.add_module(f"denselayer{j}", DenseLayer(width, growth, dropout))
                width += growth
            self.features.add_module(f"denseblock{i}", block)
        self.features.norm5 = nn.BatchNorm2d(width)
        self.width = width
        he_init(self)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        maps = F.relu(self.features(batch["image"]))
        return Features(maps.mean((2, 3)), maps=maps)


class DenseNet121(DenseNet):
    """8.0 million parameters with 1,000 classes."""

    depths = (6, 12, 24, 16)


class DenseNet169(DenseNet):
    """14.1 million parameters."""

    depths = (6, 12, 32, 32)


class DenseNet201(DenseNet):
    """20.0 million parameters."""

    depths = (6, 12, 48, 32)
