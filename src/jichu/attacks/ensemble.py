"""Several attacks, one after the other, each on the rows that still stand."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from .auto import AutoProjectedGradient
from .base import Attack, Draw, Victim, fooled
from .boundary import FastAdaptiveBoundary
from .square import Square
from .threat import Threat


class Ensemble(Attack):
    """AutoAttack (Croce and Hein, 2020, arXiv 2003.01690): auto-PGD by cross-entropy and by the targeted ratio of logits,
    FAB, and the square attack. For l2 without squares."""

    def __init__(
        self,
        steps: Annotated[int, Field(ge=2)] = 100,
        targets: Annotated[int, Field(ge=1)] = 9,
        queries: Annotated[int, Field(ge=1)] = 5000,
    ):
        self.members: list[tuple[str, Attack]] = [
            ("apgd", AutoProjectedGradient("cross-entropy", steps)),
            ("apgd-targeted", AutoProjectedGradient("targeted", steps, targets)),
            ("fab", FastAdaptiveBoundary(steps, targets)),
            ("square", Square(queries)),
        ]
        self.fell = {
            name: 0 for name, _ in self.members
        }  # rows that each fooled, of those that were left to it

    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        with torch.no_grad():
            left = (~fooled(victim(x), truth)).nonzero()[:, 0]
        found = x.clone()
        for name, attack in self.members:
            if (name == "square" and threat.norm != "linf") or not len(left):
                continue
            found[left] = attack(victim.of(left), x[left], truth[left], threat, draw)
            with torch.no_grad():
                stand = ~fooled(victim.of(left)(found[left]), truth[left])
            self.fell[name] += int((~stand).sum())
            left = left[stand]
        return found
