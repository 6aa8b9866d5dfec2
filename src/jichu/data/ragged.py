"""Rows of different lengths, one after the other in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Row i is `values[offsets[i] : offsets[i + 1]]`; values [total], offsets int64 [N + 1]."""

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Tensor:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Tensor:
        """Of each row, int64 [N]."""
        return self.offsets.diff()

    def take(self, rows: Tensor) -> Ragged:
        """Some rows, int64 [n], in that order."""
        lengths = self.lengths[rows]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        return Ragged(self.values[places(self.offsets[rows], lengths)], offsets)

    def padded(self, rows: Tensor, fill: int = -1, longest: int | None = None) -> Tensor:
        """Some rows as int64 [n, T], T being the length of the longest, at most `longest`; `fill` beyond the
        end of the others."""
        lengths = self.lengths[rows]
        if longest is not None:
            lengths = lengths.clamp(max=longest)
        columns = torch.arange(int(lengths.max()) if len(rows) else 0)
        inside = columns < lengths[:, None]
        found = torch.full(inside.shape, fill, dtype=torch.int64)
        found[inside] = self.values[places(self.offsets[rows], lengths)].long()
        return found


def places(starts: Tensor, lengths: Tensor) -> Tensor:
    """The places `starts[i] … starts[i] + lengths[i] - 1` of all rows, one after the other."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (starts - before).repeat_interleave(lengths)
