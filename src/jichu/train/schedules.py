"""Pure functions of where training is: the factor on the learning rate, and the share that the newest
weights have in their average. Nothing here has a state, so that a resumed run has nothing to restore."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from jichu.core.config import Spec
from jichu.core.names import construct

Share = Annotated[float, Field(ge=0, le=1)]
Inner = Annotated[float, Field(gt=0, lt=1)]

SCHEDULES = {
    "constant": "jichu.train.schedules:constant",
    "linear": "jichu.train.schedules:linear",
    "cosine": "jichu.train.schedules:cosine",
    "step": "jichu.train.schedules:step",
    "one-cycle": "jichu.train.schedules:one_cycle",
    "wsd": "jichu.train.schedules:wsd",
    "plateau": "jichu.train.schedules:plateau",
}
RISES_ITSELF = "one-cycle"  # takes the place of the warm-up; the others begin after it
FOLLOWS_EVALUATIONS = "plateau"
AVERAGES = {"ema": "jichu.train.schedules:ema", "swa": "jichu.train.schedules:swa"}


# --- the factor on the learning rate; progress is 0 after the warm-up and 1 at the end


def constant(progress: float) -> float:
    """No change."""
    return 1.0


def linear(progress: float, final: Share = 0.0) -> float:
    """A straight fall to `final`."""
    return final + (1 - final) * (1 - progress)


def cosine(progress: float, final: Share = 0.0) -> float:
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, 2017)."""
    return _anneal(1.0, final, progress)


def step(
    progress: float, milestones: Annotated[list[Inner], Field(min_length=1)], gamma: Inner = 0.1
) -> float:
    """× `gamma` at each milestone."""
    return gamma ** sum(milestone <= progress for milestone in milestones)


def one_cycle(progress: float, rise: Inner = 0.3, start: Share = 0.04, final: Share = 4e-6) -> float:
    """From `start` to 1 within the share `rise` of the training, then to `final`, both as half a cosine
    (Smith and Topin, 2018). It has no other warm-up."""
    if progress < rise:
        return _anneal(start, 1.0, progress / rise)
    return _anneal(1.0, final, (progress - rise) / (1 - rise))


def wsd(
    progress: float, decay: Inner = 0.2, fall: Literal["linear", "sqrt"] = "linear", final: Share = 0.0
) -> float:
    """Warm-up, stable, decay: 1 until the last share `decay`, then a fall to `final` along 1 - x or
    1 - √x (Hu et al., 2024; Hägele et al., 2024)."""
    x = max(0.0, (progress - (1 - decay)) / decay)
    return final + (1 - final) * (1 - (math.sqrt(x) if fall == "sqrt" else x))


def plateau(
    progress: float,
    seen: Sequence[float],
    gamma: Inner = 0.1,
    patience: Annotated[int, Field(ge=1)] = 3,
    final: Share = 0.0,
) -> float:
    """× `gamma` after `patience` evaluations without a better one, but not below `final`. `seen` are the
    evaluations so far, lower being better."""
    best, since, falls = math.inf, 0, 0
    for value in seen:
        best, since = (value, 0) if value < best else (best, since + 1)
        if since == patience:
            falls, since = falls + 1, 0
    return max(final, gamma**falls)


def _anneal(start: float, end: float, x: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * x)) / 2


def schedule(spec: Spec, warmup: float) -> Callable[..., float]:
    """The factor as a function of (progress of the whole training, evaluations so far): a straight rise
    over the share `warmup`, then what the schedule says."""
    rule = _taking(construct("schedule", spec, SCHEDULES, progress=0.0, seen=()))
    if spec.name == RISES_ITSELF:
        warmup = 0.0

    def factor(progress: float, seen: Sequence[float] = ()) -> float:
        if progress < warmup:
            return progress / warmup
        return rule(progress=(progress - warmup) / (1 - warmup), seen=seen)

    return factor


# --- the share of the newest weights in their average, after the step (0-based) just made


def ema(step: int, decay: Inner = 0.999) -> float:
    """An exponential moving average; `decay` is approached from below, so that it does not remember how
    training began."""
    return 1 - min(decay, (1 + step) / (10 + step))


def swa(step: int, steps: int, start: Annotated[float, Field(ge=0, lt=1)] = 0.75) -> float:
    """The equal mean of the weights after each step from the share `start` of the training on (stochastic
    weight averaging, Izmailov et al., 2018); a constant schedule suits it."""
    first = min(math.ceil(start * steps), steps - 1)
    return 1 / (step - first + 1) if step >= first else 1.0


def averaging(spec: Spec) -> Callable[..., float]:
    """The share as a function of (step, steps)."""
    return _taking(construct("average", spec, AVERAGES, step=0, steps=1))


def _taking(rule: Callable[..., float]) -> Callable[..., float]:
    """The rule, called with more than it takes."""
    assert isinstance(rule, functools.partial)
    takes = set(rule.keywords)
    return lambda **given: rule(**{name: value for name, value in given.items() if name in takes})
