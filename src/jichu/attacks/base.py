"""What an attack is, and what all of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jichu.core.errors import UsageError

from .losses import Loss
from .threat import Threat

Draw = Callable[[Tensor, str], Tensor]  # numbers from 0 to 1, as many as the tensor has, for a purpose


@dataclass(frozen=True)
class Victim:
    """A model as an attacker sees it: logits [n, K] of inputs [n, ...] that stand for some `rows` [n] of a batch."""

    ask: Callable[[Tensor, Tensor], Tensor]  # inputs and rows: logits
    rows: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.ask(x, self.rows)

    def of(self, some: Tensor) -> Victim:
        """The same for some of the rows, by number."""
        return Victim(self.ask, self.rows[some])


class Attack:
    """Inputs [B, ...] changed within a threat so that a model errs. A subclass says how; its keyword arguments are what
    may be said of it."""

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Allowed inputs, those of rows that could not be fooled included."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")


def drawing(seed: int) -> Draw:
    """Numbers of a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like, _: torch.rand(like.shape, generator=generator).to(like.device)


def slope(score: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [B, ...] of each row's score [B] with respect to its input, 0 where it is no finite number, and the scores.
    Raises UsageError where the model cannot be differentiated."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = score(x.view_as(x))  # no leaf: hooks on what enters a module cannot wait for one
        if not scores.requires_grad:
            raise UsageError(
                "the model cannot be differentiated with respect to its inputs", expected="the attack square"
            )
        gradient = torch.autograd.grad(scores.sum(), x)[0]
    return gradient.nan_to_num(0.0, 0.0, 0.0), scores.detach()


def ascent(victim: Victim, x: Tensor, truth: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient [B, ...] of a loss, the losses [B], and the logits [B, K]."""
    out = []

    def score(x: Tensor) -> Tensor:
        out.append(victim(x))
        return loss(out[0], truth)

    gradient, losses = slope(score, x)
    return gradient, losses, out[0].detach()


def fooled(out: Tensor, truth: Tensor) -> Tensor:
    """Whether the answer of each row is wrong, or none at all, bool [B]."""
    return (out.argmax(1) != truth) | out.isnan().any(1)
