"""FAB, the fast adaptive boundary attack: the smallest change that fools (Croce and Hein, 2020, arXiv 1907.02044)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from .base import Attack, Draw, Victim, fooled, slope
from .targeted import one_by_one
from .threat import Threat, by_row

_OVER = 1.05  # of the way to the boundary is gone
_HOME = 0.1  # at most is the share of the way from the origin
_BACK = 0.9  # of a change that fooled is kept


class FastAdaptiveBoundary(Attack):
    """FAB-T, for each of the `targets` likeliest wrong classes, one after the other, on the rows that still stand. The
    nearest place where that class would be as likely as the true one, were the model linear, is gone to, from here and a
    little from the origin too; where it fools, part of the way back. `restarts` after the first begin at random places."""

    def __init__(
        self,
        steps: Annotated[int, Field(ge=1)] = 100,
        targets: Annotated[int, Field(ge=1)] = 9,
        restarts: Annotated[int, Field(ge=1)] = 1,
    ):
        self.steps, self.targets, self.restarts = steps, targets, restarts

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Inputs that fool with as small a change as was found, where that is allowed; else the inputs as they were."""

        def attempt(victim: Victim, x: Tensor, truth: Tensor, wanted: Tensor, draw: Draw) -> Tensor:
            best, half = x, replace(threat, epsilon=threat.epsilon / 2)
            shortest = x.new_full((len(x),), torch.inf)
            for turn in range(self.restarts):
                start = half.start(x, draw(x, f"fab.{turn}")) if turn else x
                found, sizes = self._nearest(victim, x, truth, wanted, threat, start)
                best = torch.where(by_row(sizes < shortest, x), found, best)
                shortest = torch.minimum(sizes, shortest)
            return torch.where(by_row(shortest <= threat.epsilon, x), best, x)

        return one_by_one(attempt, self.targets, victim, x, truth, draw)

    def _nearest(
        self, victim: Victim, x: Tensor, truth: Tensor, wanted: Tensor, threat: Threat, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The nearest inputs that were seen to fool [n, ...], and the sizes of their changes [n], infinite where none did."""

        def lead(z: Tensor) -> Tensor:
            out = victim(z)
            return (out.gather(1, wanted[:, None]) - out.gather(1, truth[:, None]))[:, 0]

        best, at = x, start
        shortest = x.new_full((len(x),), torch.inf)
        for _ in range(self.steps):
            normal, ahead = slope(lead, at)
            here = threat.onto(at, normal, -ahead)
            home = threat.onto(x, normal, (normal * (at - x)).flatten(1).sum(1) - ahead)
            near, far = threat.size(here), threat.size(home)
            share = by_row((near / (near + far).clamp(min=1e-12)).clamp(max=_HOME), x)
            at = (1 - share) * (at + _OVER * here) + share * (x + _OVER * home)
            at = at.clamp(threat.low, threat.high)
            with torch.no_grad():
                fools = fooled(victim(at), truth)
            sizes = torch.where(fools, threat.size(at - x), torch.inf)
            best = torch.where(by_row(sizes < shortest, x), at, best)
            shortest = torch.minimum(sizes, shortest)
            at = torch.where(by_row(fools, x), x + _BACK * (at - x), at)
        return best, shortest
