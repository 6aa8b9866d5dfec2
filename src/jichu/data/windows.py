"""Windows of series in time, beside dense tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SERIES = "series"  # the tensor of what a model looks at


@dataclass(frozen=True)
class SeriesInputs:
    """What a model looks at: `steps` of the columns, of which those at the places `targets` are forecast."""

    columns: tuple[str, ...]
    steps: int
    targets: tuple[int, ...]


class Windows:
    """Stretches of `steps` rows of values [T, F], from the `starts` [N] on.

    Stands beside dense tensors: `index_select(0, rows)` gives float32 [B, steps, F], so that nothing is held more than
    once.
    """

    dtype = torch.float32

    def __init__(self, values: Tensor, starts: Tensor, steps: int):
        self.values, self.starts, self.steps = values, starts, steps

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> torch.Size:
        """[N, steps, F]."""
        return torch.Size([len(self), self.steps, self.values.shape[1]])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The windows of some rows."""
        places = self.starts[rows][:, None] + torch.arange(self.steps)
        return self.values.index_select(0, places.flatten()).unflatten(0, places.shape)

    def __getitem__(self, rows: Any) -> Tensor:
        return self.index_select(0, torch.as_tensor(rows))

    def known(self, rows: Tensor) -> Tensor:
        """Whether each row [n] has a value that is not missing, bool."""
        there = (~self.values.isnan()).any(1).long().cumsum(0)
        counted = torch.cat([there.new_zeros(1), there])
        first = self.starts[rows]
        return counted[first + self.steps] > counted[first]

    def covered(self, rows: Tensor) -> Tensor:
        """The values [n, F] of all steps that lie in a window of these rows, each once."""
        change = torch.zeros(len(self.values) + 1, dtype=torch.int64)
        change.index_add_(0, self.starts[rows], torch.ones(len(rows), dtype=torch.int64))
        change.index_add_(0, self.starts[rows] + self.steps, -torch.ones(len(rows), dtype=torch.int64))
        return self.values[change.cumsum(0)[:-1] > 0]


def statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [F] of values [n, F] where they are not missing; 0 and 1 where there are none, or all are
    the same."""
    values = values.double()
    mean = values.nanmean(0)
    std = (values - mean).square().nanmean(0).sqrt()
    return mean.nan_to_num(0.0), torch.where(std > 1e-12 * (1 + mean.abs()), std, 1.0)
