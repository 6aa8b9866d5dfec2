"""Stochastic depth (Huang et al., 2016): in training, whole residual branches are left out row by row."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Dropout):
    """Sets a row of a branch [B, ...] to zero with probability p, and scales the rows that are kept, so
    that the mean stays as it was. The identity in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return x * super().forward(x.new_ones(len(x), *[1] * (x.ndim - 1)))


def rising(most: float, depth: int) -> list[float]:
    """One probability for each of `depth` blocks, rising linearly to `most` in the last one."""
    return [most * (block + 1) / depth for block in range(depth)]
