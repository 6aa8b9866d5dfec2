"""Attacks that want one wrong class, tried for one class after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Draw, Victim, fooled

# of a victim, inputs, their truth and the classes that are wanted of them: inputs
Attempt = Callable[[Victim, Tensor, Tensor, Tensor, Draw], Tensor]


def one_by_one(attempt: Attempt, most: int, victim: Victim, x: Tensor, truth: Tensor, draw: Draw) -> Tensor:
    """Inputs [B, ...] after attempts at each of the `most` likeliest wrong classes, for the rows that still stand."""
    with torch.no_grad():
        out = victim(x)
    wrong = out.scatter(1, truth[:, None], -torch.inf).argsort(1, descending=True)
    found, left = x.clone(), (~fooled(out, truth)).nonzero()[:, 0]
    for k in range(min(most, out.shape[1] - 1)):
        if not len(left):
            break
        mine, there = victim.of(left), truth[left]
        found[left] = attempt(mine, x[left], there, wrong[left, k], _numbered(draw, k))
        with torch.no_grad():
            left = left[~fooled(mine(found[left]), there)]
    return found


def _numbered(draw: Draw, k: int) -> Draw:
    return lambda like, purpose: draw(like, f"{purpose}.{k}")
