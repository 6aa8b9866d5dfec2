"""What an attacker may do to an input, and the geometry of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
_TINY = 1e-12


@dataclass(frozen=True)
class Threat:
    """Inputs [B, ...] may be changed by at most `epsilon` in a norm over each row, and stay between `low` and `high`."""

    epsilon: float
    norm: Norm = "linf"
    low: float = 0.0
    high: float = 1.0

    def project(self, x: Tensor, origin: Tensor) -> Tensor:
        """The nearest inputs that are allowed (for l2 and bounds at once: allowed ones that are near)."""
        if self.norm == "linf":
            low = (origin - self.epsilon).clamp(min=self.low)
            high = (origin + self.epsilon).clamp(max=self.high)
            return torch.minimum(torch.maximum(x, low), high)
        change = x - origin
        shrink = (self.epsilon / length(change).clamp(min=_TINY)).clamp(max=1)
        return (origin + change * shrink).clamp(self.low, self.high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The change of length 1 in the norm that the loss grows fastest by, if it is linear."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / length(gradient).clamp(min=_TINY)

    def start(self, origin: Tensor, uniform: Tensor) -> Tensor:
        """Somewhere in the allowed region at random, given numbers [B, ...] from 0 to 1: evenly for linf, on the sphere
        for l2."""
        if self.norm == "linf":
            return self.project(origin + (2 * uniform - 1) * self.epsilon, origin)
        normal = math.sqrt(2) * (2 * uniform.clamp(1e-6, 1 - 1e-6) - 1).erfinv()
        return self.project(origin + self.epsilon * self.steepest(normal), origin)


def length(x: Tensor) -> Tensor:
    """The Euclidean length of each row, [B, 1, ...]."""
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))


def by_row(values: Tensor, like: Tensor) -> Tensor:
    """Values [B] as [B, 1, ...] beside inputs."""
    return values.view(-1, *[1] * (like.ndim - 1))
