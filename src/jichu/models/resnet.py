"""Residual networks (He et al., 2015), with the state-dict names of torchvision's weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from .backbone import Backbone, Features


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(Backbone):
    """Four stages of basic blocks. The `small` stem (3×3, no pooling) is for images below about 64
    pixels, as in section 4.2 of the paper; `large` is the ImageNet one (7×7, stride 2, pooled)."""

    def __init__(self, channels: int, depths: list[int], base: int, stem: Literal["small", "large"]):
        super().__init__()
        large = stem == "large"
        self.conv1 = (
            nn.Conv2d(channels, base, 7, 2, padding=3, bias=False)
            if large
            else nn.Conv2d(channels, base, 3, padding=1, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(base)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        before = base
        for stage, depth in enumerate(depths):
            width = base << stage
            blocks = [
                BasicBlock(before if i == 0 else width, width, 2 if stage and i == 0 else 1)
                for i in range(depth)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            before = width
        self.stages = len(depths)
        self.width = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, batch: dict[str, Tensor]) -> Features:
        x = self.maxpool(F.relu(self.bn1(self.conv1(batch["image"]))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return Features(x.mean((2, 3)), maps=x)


def resnet18(
    channels: int,
    size: int,
    base: Annotated[int, Field(ge=1)] = 64,
    stem: Literal["auto", "small", "large"] = "auto",
) -> ResNet:
    """ResNet-18; `base` is the width of the first stage. The stem follows the image size."""
    if stem == "auto":
        stem = "small" if size < 96 else "large"
    return ResNet(channels, [2, 2, 2, 2], base, stem)
