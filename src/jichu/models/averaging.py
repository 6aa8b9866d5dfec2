"""Weights that follow others: a moving mean, a teacher."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow(mine: nn.Module, theirs: nn.Module, share: float) -> None:
    """Weights and statistics of `mine` go towards those of `theirs`, a module of the same build, by a share;
    what is no fraction, such as a count of batches, is taken over."""
    pairs = [*zip(mine.parameters(), theirs.parameters(), strict=True)]
    pairs += zip(mine.buffers(), theirs.buffers(), strict=True)  # type: ignore[arg-type]
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    if floats:
        own, other = (list(side) for side in zip(*floats, strict=True))
        torch._foreach_lerp_(own, other, share)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
