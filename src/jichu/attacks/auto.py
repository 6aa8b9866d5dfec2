"""Auto-PGD: projected gradients with momentum, whose step size finds itself (Croce and Hein, 2020, arXiv 2003.01690)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from .base import Attack, Draw, Victim, ascent, fooled
from .losses import Loss, cross_entropy, difference_of_logits_ratio, towards
from .targeted import one_by_one
from .threat import Threat, by_row

_FIRST, _LESS, _LEAST = (
    0.22,
    0.03,
    0.06,
)  # shares of the steps: until the first look, by how much less, at least
_RISING = 0.75  # of the steps between two looks are to raise the loss
_MOMENTUM = 0.25  # share of a step that is the one before
LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "dlr": difference_of_logits_ratio}


class AutoProjectedGradient(Attack):
    """The loss is cross-entropy, `dlr` (difference of logits ratio), or `targeted`: that ratio for each of the `targets`
    likeliest wrong classes, one after the other, for the rows that still stand."""

    def __init__(
        self,
        loss: Literal["cross-entropy", "dlr", "targeted"] = "cross-entropy",
        steps: Annotated[int, Field(ge=2)] = 100,
        targets: Annotated[int, Field(ge=1)] = 9,
    ):
        self.loss, self.steps, self.targets = loss, steps, targets

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        if self.loss != "targeted":
            return self._raise(victim, x, truth, threat, draw(x, "apgd"), LOSSES[self.loss])
        return one_by_one(
            lambda victim, x, truth, wanted, draw: self._raise(
                victim, x, truth, threat, draw(x, "apgd"), towards(wanted)
            ),
            self.targets, victim, x, truth, draw,
        )  # fmt: skip

    def _raise(
        self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, uniform: Tensor, loss: Loss
    ) -> Tensor:
        """Inputs that fool the model, or else those of the highest loss."""
        at = threat.start(x, uniform)
        gradient, losses, out = ascent(victim, at, truth, loss)
        best, highest, best_gradient = at.clone(), losses.clone(), gradient.clone()
        found = fooled(out, truth)
        examples = at.clone()  # that fool, where `found`
        before, size = at, torch.full_like(losses, 2 * threat.epsilon)
        rises = torch.zeros_like(losses)
        halved, highest_then = torch.ones_like(found), highest.clone()
        looks = _looks(self.steps)
        last = 0
        for step in range(1, self.steps + 1):
            ahead = threat.project(at + by_row(size, at) * threat.steepest(gradient), x)
            if step > 1:
                ahead = threat.project(at + (1 - _MOMENTUM) * (ahead - at) + _MOMENTUM * (at - before), x)
            before, at = at, ahead
            previous = losses
            gradient, losses, out = ascent(victim, at, truth, loss)
            new = fooled(out, truth) & ~found
            examples, found = torch.where(by_row(new, at), at, examples), found | new
            rises += losses > previous
            better = losses > highest
            best = torch.where(by_row(better, at), at, best)
            best_gradient = torch.where(by_row(better, at), gradient, best_gradient)
            highest = torch.where(better, losses, highest)
            if step in looks:
                slow = rises < _RISING * (step - last)
                stuck = ~halved & (highest_then >= highest)
                halved, highest_then, last = slow | stuck, highest.clone(), step
                size = torch.where(halved, size / 2, size)
                at = torch.where(by_row(halved, at), best, at)
                gradient = torch.where(by_row(halved, at), best_gradient, gradient)
                rises.zero_()
            if bool(found.all()):
                break
        return torch.where(by_row(found, x), examples, best)


def _looks(steps: int) -> set[int]:
    """The steps at which the step size is looked at: ever closer together."""
    at, apart = 0.0, _FIRST
    found = set()
    while at < 1:
        at += apart
        apart = max(apart - _LESS, _LEAST)
        found.add(max(1, round(at * steps)))
    return found
