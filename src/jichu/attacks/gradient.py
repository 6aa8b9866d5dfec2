"""Attacks that follow the gradient of the loss: one step, or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from .base import Attack, Draw, Victim, ascent, slope
from .losses import cross_entropy
from .threat import Threat, by_row

Positive = Annotated[float, Field(gt=0)]


class FastGradient(Attack):
    """One step as long as is allowed (Goodfellow et al., 2015, arXiv 1412.6572)."""

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        gradient, _, _ = ascent(victim, x, truth, cross_entropy)
        return threat.project(x + threat.epsilon * threat.steepest(gradient), x)


class ProjectedGradient(Attack):
    """Many steps, each put back to what is allowed (Madry et al., 2018, arXiv 1706.06083). A step is `size` times epsilon
    long, by default 2.5 times it over their number; `restarts` begin at random places, and the input of each row with the
    largest loss is kept."""

    def __init__(
        self,
        steps: Annotated[int, Field(ge=1)] = 40,
        size: Positive | None = None,
        restarts: Annotated[int, Field(ge=1)] = 1,
    ):
        self.steps, self.size, self.restarts = steps, size or 2.5 / steps, restarts

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        def score(x: Tensor) -> Tensor:
            return cross_entropy(victim(x), truth)

        found, highest = x, torch.full(truth.shape, -torch.inf, device=x.device)
        for restart in range(self.restarts):
            start = threat.start(x, draw(x, f"pgd.{restart}"))
            at = climb(score, x, start, threat, self.steps, self.size)
            with torch.no_grad():
                losses = score(at)
            better = losses > highest
            found = torch.where(by_row(better, at), at, found)
            highest = torch.where(better, losses, highest)
        return found


def climb(
    score: Callable[[Tensor], Tensor], origin: Tensor, start: Tensor, threat: Threat, steps: int, size: float
) -> Tensor:
    """Inputs [B, ...] after some steps up from where it starts, each `size` times epsilon long."""
    at = start
    for _ in range(steps):
        gradient, _ = slope(score, at)
        at = threat.project(at + size * threat.epsilon * threat.steepest(gradient), origin)
    return at
