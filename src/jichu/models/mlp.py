"""Pixels as features, and a multi-layer perceptron over them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from .backbone import Backbone, Features


class Pixels(Backbone):
    """No network at all: the pixels in a row. What the classical models look at."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.width = channels * size * size

    def forward(self, batch: dict[str, Tensor]) -> Features:
        return Features(batch["image"].flatten(1))


class Mlp(Backbone):
    """Dense layers with ReLU and dropout."""

    def __init__(
        self,
        channels: int,
        size: int,
        widths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [256, 128],  # noqa: B006 (read only)
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([channels * size * size, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.width = widths[-1]

    def forward(self, batch: dict[str, Tensor]) -> Features:
        return Features(self.layers(batch["image"].flatten(1)))
