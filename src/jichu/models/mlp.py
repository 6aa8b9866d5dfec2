"""Pixels as features, and a multi-layer perceptron over pixels or the columns of a table."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features
from .common import Rate, Width
from .periodic import Periodic
from .tables import filled


class Pixels(Backbone):
    """No network at all: the pixels in a row. What the classical models look at."""

    def __init__(self, channels: int, size: int, height: int | None = None):
        super().__init__()
        self.width = channels * (height or size) * size

    def forward(self, batch: dict[str, Tensor]) -> Features:
        return Features(batch["image"].flatten(1))


def embedding_width(codes: int) -> int:
    """How wide the vector of a category with so many codes is: fastai's rule, found by trial, at most 32."""
    return min(32, math.ceil(1.6 * codes**0.56))


class Mlp(Backbone):
    """Dense layers with ReLU and dropout, over whatever there is of pixels, numbers and categories.

    Numbers come with a flag for each that is missing, and 0 in its place; each code of a category has a
    learned vector. With `numeric: periodic` each number becomes a vector too (`jichu.models.periodic`),
    with frequencies spread by `frequency_scale`.
    """

    def __init__(
        self,
        channels: int = 0,
        size: int = 0,
        height: int | None = None,
        numbers: int = 0,
        categories: list[int] = [],  # noqa: B006 (read only)
        widths: Annotated[list[Width], Field(min_length=1)] = [256, 128],  # noqa: B006 (read only)
        dropout: Rate = 0.0,
        norm: Literal["none", "batch"] = "none",
        numeric: Literal["plain", "periodic"] = "plain",
        frequency_scale: Annotated[float, Field(gt=0)] = 0.1,
    ):
        super().__init__()
        self.has_image, self.has_numbers = bool(channels), bool(numbers)
        if not channels and not numbers and not categories:
            raise UsageError("an mlp without inputs", expected="images, numbers or categories")
        before = channels * (height or size) * size + 2 * numbers
        self.periodic = None
        if numbers and numeric == "periodic":
            self.periodic = Periodic(numbers, frequency_scale)
            before += numbers * (self.periodic.bias.shape[1] - 1)
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_width(n)) for n in categories)
        before += sum(embedding_width(n) for n in categories)
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Linear(before, width))
            layers += [nn.BatchNorm1d(width)] if norm == "batch" else []
            layers += [nn.ReLU(), nn.Dropout(dropout)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.width = before

    def forward(self, batch: dict[str, Tensor]) -> Features:
        parts = []
        if self.has_image:
            parts.append(batch["image"].flatten(1))
        if self.has_numbers:
            numbers = filled(batch["numbers"])
            parts.append(numbers if self.periodic is None else self.periodic(numbers).flatten(1))
            parts.append(batch["numbers"].isnan().to(numbers.dtype))
        parts += [vectors(batch["categories"][:, i]) for i, vectors in enumerate(self.embeddings)]
        return Features(self.layers(torch.cat(parts, 1)))
