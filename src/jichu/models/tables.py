"""The columns of a table as features: numbers [B, F] with NaN where they are missing, categories [B, G] as
codes, 0 where they are missing or were never seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features


def require_columns(numbers: int, categories: list[int]) -> None:
    """UsageError where there is nothing to look at."""
    if not numbers and not categories:
        raise UsageError("a table without columns to learn from", expected="numbers or categories")


def filled(numbers: Tensor) -> Tensor:
    """Missing numbers as 0, the mean of what is standardised."""
    return numbers.nan_to_num(nan=0.0)


class OneHot(nn.Module):
    """Codes [B] as 0 and 1, [B, codes]."""

    def __init__(self, codes: int):
        super().__init__()
        self.codes = codes

    def forward(self, codes: Tensor) -> Tensor:
        return F.one_hot(codes, self.codes).float()


class Columns(Backbone):
    """No network at all: numbers with 0 for missing ones, a flag for each that is missing, and a 0 or 1
    for each code of each category. What the linear models look at."""

    def __init__(self, numbers: int = 0, categories: list[int] = []):  # noqa: B006 (read only)
        super().__init__()
        require_columns(numbers, categories)
        self.numbers = numbers
        self.codes = nn.ModuleList(map(OneHot, categories))
        self.width = 2 * numbers + sum(categories)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        parts = []
        if self.numbers:
            parts += [filled(batch["numbers"]), batch["numbers"].isnan().float()]
        parts += [one_hot(batch["categories"][:, i]) for i, one_hot in enumerate(self.codes)]
        return Features(torch.cat(parts, 1))


class Cells(Backbone):
    """No network at all: the numbers as they are, NaN where missing, then the codes of the categories.
    What trees look at; `categorical` says of each feature whether it is a code."""

    def __init__(self, numbers: int = 0, categories: list[int] = []):  # noqa: B006 (read only)
        super().__init__()
        require_columns(numbers, categories)
        self.categorical = [False] * numbers + [True] * len(categories)
        self.width = len(self.categorical)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        parts = [batch["numbers"]] if not all(self.categorical) else []
        if any(self.categorical):
            parts.append(batch["categories"].float())
        return Features(torch.cat(parts, 1))
