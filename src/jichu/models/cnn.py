"""A small convolutional network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from .backbone import Backbone, Features
from .common import Width


def _norm(kind: str, width: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm2d(width)]
    if kind == "group":
        return [nn.GroupNorm(min(8, width), width)]
    return []


class Cnn(Backbone):
    """For each width a 3×3 convolution, normalisation, 2×2 max-pooling while the maps are larger than
    `smallest`, and ReLU (after pooling, which gives the same on a quarter of the values); then the mean over places or all of them, then a dense layer with ReLU for
    each width in `hidden`."""

    def __init__(
        self,
        channels: int,
        size: int,
        widths: Annotated[list[Width], Field(min_length=1)] = [32, 64, 128, 128],  # noqa: B006 (read only)
        norm: Literal["batch", "group", "none"] = "batch",
        readout: Literal["mean", "flatten"] = "mean",
        hidden: Width | list[Width] | None = None,
        smallest: Width = 4,
    ):
        super().__init__()
        blocks: list[nn.Module] = []
        side = size
        for before, width in zip([channels, *widths], widths, strict=False):
            convolution = nn.Conv2d(before, width, 3, padding=1, bias=norm == "none")
            block = [convolution, *_norm(norm, width)]
            if side > smallest:
                block.append(nn.MaxPool2d(2))
                side //= 2
            blocks.append(nn.Sequential(*block, nn.ReLU()))
        self.blocks = nn.Sequential(*blocks)
        self.readout = readout
        self.width = widths[-1] * (side * side if readout == "flatten" else 1)
        self.hidden = nn.Sequential()
        for width in [hidden] if isinstance(hidden, int) else hidden or []:
            self.hidden.extend([nn.Linear(self.width, width), nn.ReLU()])
            self.width = width

    def forward(self, batch: dict[str, Tensor]) -> Features:
        maps = self.blocks(batch["image"])
        pooled = maps.mean((2, 3)) if self.readout == "mean" else maps.flatten(1)
        return Features(self.hidden(pooled), maps=maps)
