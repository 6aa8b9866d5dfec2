"""What is done about a step that is not finite, and about a loss that runs away."""

from __future__ import annotations

import collections
import math
from typing import Any

import torch
from torch import Tensor

from jichu.data.batches import Batch
from jichu.models.modes import evaluating

from .learner import Learner

_STEPS = 20  # whose mean loss is looked at
_RUNAWAY = 6.0  # times the loss of the untrained model
_LEAST = 2.0  # a first loss below this counts as this: one that begins low has room to rise
_LEARNT = 0.05  # share of the first loss
_FEW = 0.01  # share of the rows seen that may be broken; where more are, it is the training that is


@torch.no_grad()
def broken_rows(learner: Learner, batch: Batch, inside: Any) -> Tensor:
    """Which rows [B] of a prepared batch give no finite loss by themselves: in evaluation mode, where they
    share no batch statistics; and where their losses are one sum, no finite features."""
    with evaluating(learner), inside():
        ones = {name: weight.sum() for name, weight in learner.objective.weights(batch).items()}
        broken = ~learner(batch, ones, 1)[2].isfinite()
        if broken.all() or not broken.any():
            features = learner.model(batch)["features"].pooled
            broken = ~features.flatten(1).isfinite().all(1)
    return broken


def too_many(broken: int, seen: int) -> bool:
    """Whether so many broken rows of those seen are a sign that training itself has failed."""
    return broken > max(3, _FEW * seen)


class Watch:
    """Sees whether the loss runs away (over twenty steps its mean is six times what it was before
    training), or never falls."""

    def __init__(self) -> None:
        self.first = math.nan
        self._last: collections.deque[float] = collections.deque(maxlen=_STEPS)

    def sees(self, loss: float) -> None:
        """Look at the loss of one step."""
        if math.isnan(self.first):
            self.first = loss
        self._last.append(loss)

    @property
    def _limit(self) -> float:
        return _RUNAWAY * max(abs(self.first), _LEAST)

    @property
    def calm(self) -> bool:
        """Whether the last step's loss was no reason for concern."""
        return not self._last or self._last[-1] <= self._limit

    @property
    def lost(self) -> bool:
        """Whether it ran away."""
        return len(self._last) == _STEPS and sum(self._last) / _STEPS > self._limit

    @property
    def stuck(self) -> bool:
        """Whether the loss is hardly lower than it was before training."""
        return len(self._last) == _STEPS and sum(self._last) / _STEPS > self.first - _LEARNT * abs(self.first)
