"""Inputs that are changed so that a model errs: attacks by name, within what an attacker may do."""

from __future__ import annotations

from jichu.core.config import Spec
from jichu.core.names import construct

from .base import Attack, Draw, Victim, ascent, drawing, fooled
from .threat import Norm, Threat

__all__ = ["ATTACKS", "Attack", "Draw", "Norm", "Threat", "Victim", "ascent", "drawing", "fooled", "make"]

ATTACKS = {
    "fgsm": "jichu.attacks.gradient:FastGradient",
    "pgd": "jichu.attacks.gradient:ProjectedGradient",
    "apgd": "jichu.attacks.auto:AutoProjectedGradient",
    "fab": "jichu.attacks.boundary:FastAdaptiveBoundary",
    "square": "jichu.attacks.square:Square",
    "ensemble": "jichu.attacks.ensemble:Ensemble",
}


def make(spec: Spec, where: str = "attack") -> Attack:
    """The attack of a name, with what is said of it."""
    attack: Attack = construct("attack", spec, ATTACKS, where=where)()
    return attack
