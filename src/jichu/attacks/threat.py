"""What an attacker may do to an input, and the geometry of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["linf", "l2"]
_TINY, _ENDLESS = 1e-12, 1e12


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

    def size(self, change: Tensor) -> Tensor:
        """How long each change is in the norm, [B]."""
        return change.flatten(1).norm(dim=1, p=torch.inf if self.norm == "linf" else 2)

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor) -> Tensor:
        """The smallest change [B, ...] between the bounds by which `normal` · x rises by `rise` [B] (falls, where that is
        negative), or by as much of it as can be. In closed form (Croce and Hein, 2020, arXiv 1907.02044): all places move
        at once, each at its own pace until it is at its bound."""
        weight, way = normal.flatten(1).abs(), by_row(rise.sign(), normal) * normal.sign()
        room = torch.where(way > 0, self.high - x, x - self.low).flatten(1).clamp(0, _ENDLESS)
        pace = torch.ones_like(weight) if self.norm == "linf" else weight
        stops, order = (room / pace.clamp(min=_TINY)).sort(1)
        at_bounds = (weight * room).gather(1, order).cumsum(1)
        risen = nn.functional.pad(at_bounds[:, :-1], (1, 0))  # by what stands still before each stop
        # of all that still moves until then
        speed = (weight * pace).gather(1, order).flip(1).cumsum(1).flip(1)
        wanted = rise.abs()[:, None]
        last = torch.searchsorted(risen + stops * speed, wanted).clamp(max=stops.shape[1] - 1)
        time = (wanted - risen.gather(1, last)) / speed.gather(1, last).clamp(min=_TINY)
        return way * torch.minimum(time * pace, room).view_as(x)

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
