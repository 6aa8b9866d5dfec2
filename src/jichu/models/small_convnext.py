"""A small network of ConvNeXt blocks (Liu et al., 2022, arXiv 2201.03545) for small images."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features
from .common import Depth, Rate, Stem, Width, is_small, refuse_below
from .drop_path import DropPath, rising


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of maps [B, D, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """A 7×7 convolution in each channel alone, then a dense layer of four times the width at each place;
    `layer_scale` is what the branch is first multiplied by."""

    def __init__(self, width: int, drop_path: float, layer_scale: float):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        branch = self.scale * self.narrow(F.gelu(self.widen(branch)))
        return x + self.drop_path(branch.permute(0, 3, 1, 2))


class SmallConvNext(Backbone):
    """Stages of ConvNeXt blocks, the side of the maps halved between them: 3.9 million parameters.

    The image is cut into squares of 4×4 pixels in the `large` stem, of 2×2 in the `small` one.
    `drop_path` is the probability with which the last branch is left out in training.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        depths: Annotated[list[Depth], Field(min_length=1)] = [3, 3, 6],  # noqa: B006 (read only)
        widths: Annotated[list[Width], Field(min_length=1)] = [64, 128, 256],  # noqa: B006 (read only)
        drop_path: Rate = 0.0,
        layer_scale: Annotated[float, Field(gt=0)] = 1e-6,
        stem: Stem = "auto",
    ):
        super().__init__()
        if len(depths) != len(widths):
            raise UsageError(
                f"{len(depths)} depths and {len(widths)} widths", expected="one of each for a stage"
            )
        side = 2 if is_small(stem, size) else 4
        refuse_below(side << (len(widths) - 1), size, "small-convnext", "fewer stages, or resnet18")
        rates = iter(rising(drop_path, sum(depths)))
        layers: list[nn.Module] = []
        before = channels
        for depth, width in zip(depths, widths, strict=True):
            if layers:
                layers += [ChannelNorm(before), nn.Conv2d(before, width, 2, 2)]
            else:
                layers += [nn.Conv2d(channels, width, side, side), ChannelNorm(width)]
            layers += [ConvNextBlock(width, next(rates), layer_scale) for _ in range(depth)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(before)
        self.width = before
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> Features:
        maps = self.layers(batch["image"])
        return Features(self.norm(maps.mean((2, 3))), maps=maps)
