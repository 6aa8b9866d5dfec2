"""How a model treats groups of rows: rates by group, and how far they are apart.

What a row counts for, [N, S], is summed by group; rates [..., G, R] are made of the sums [..., G, S], and gaps of the rates,
so that all of them come out of the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .base import Array, ratio
from .intervals import Interval, intervals


class Gap(NamedTuple):
    """The difference, or the ratio, of a rate between the groups that have most and least of it; of several rates, by
    number, the one of which they are furthest apart."""

    name: str
    rates: tuple[int, ...]
    ratio: bool = False


class Measure(NamedTuple):
    """Rates of groups, and gaps between them."""

    rates: tuple[str, ...]
    of: Callable[[Array], Array]  # sums [..., G, S] -> rates [..., G, R]
    gaps: tuple[Gap, ...]


class ByGroup(NamedTuple):
    """What was measured: of each group its rates, and the gaps between groups."""

    rates: list[dict[str, Interval]]
    gaps: dict[str, Interval]


def decisions(due: Array, chosen: Array, odds: Array) -> Array:
    """[N, 6] of rows that are due a favourable decision or not [N], of those that get it (or with what probability), and
    of what the model thinks is its probability: 1, chosen, due, both, whether that is right, and the probability."""
    right = chosen * due + (1 - chosen) * (1 - due)
    return np.stack([np.ones(len(due)), chosen, due, chosen * due, right, odds], 1).astype(np.float64)


def _of_decisions(sums: Array) -> Array:
    rows, chosen, due, both, right, odds = np.moveaxis(sums, -1, 0)
    found = [(chosen, rows), (both, due), (chosen - both, rows - due), (right, rows), (odds - due, rows)]
    return np.stack([ratio(above, below) for above, below in found], -1)


CLASSES = Measure(
    ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy", "confidence_above_rate"),
    _of_decisions,
    (
        Gap("demographic_parity_difference", (0,)),
        Gap("demographic_parity_ratio", (0,), ratio=True),
        Gap("equal_opportunity_difference", (1,)),
        Gap("equalised_odds_difference", (1, 2)),
        Gap("accuracy_difference", (3,)),
    ),
)


def errors(truth: Array, predicted: Array) -> Array:
    """[N, 4] of numbers [N]: 1, what is predicted, by how much it is above the truth, and how far off."""
    return np.stack([np.ones(len(truth)), predicted, predicted - truth, np.abs(predicted - truth)], 1)


_OF_NUMBERS = ("mean_prediction", "mean_error", "mean_absolute_error")
NUMBERS = Measure(
    _OF_NUMBERS,
    lambda sums: ratio(sums[..., 1:], sums[..., :1]),
    tuple(Gap(f"{name}_difference", (i,)) for i, name in enumerate(_OF_NUMBERS)),
)


def by_group(
    measure: Measure,
    parts: Array,
    codes: Array,
    count: int,
    compared: Array | None = None,
    *,
    seed: int = 0,
) -> ByGroup:
    """Rates of `count` groups, and gaps between those rates that are `compared` (bool [G, R]; all if not given), with
    intervals, from what the rows of each draw count for, [D, N, S], and the group of each row [N].

    The interval of a gap is of the two groups that are furthest apart as measured, and ends at 0 (a ratio: at 1) where
    they might as well be the other way round. (The largest gap of a resample, of whichever groups, is never 0.)"""
    of_group = [np.flatnonzero(codes == group) for group in range(count)]

    def rates(weights: Array) -> Array:
        sums = np.stack([weights[:, rows] @ parts[:, rows] for rows in of_group], -2)  # [D, R, G, S]
        return measure.of(sums.swapaxes(0, 1))

    def known(found: Array) -> Array:
        return found if compared is None else np.where(compared, found, np.nan)

    draws, rows, _ = parts.shape
    least, most, which = _ends(measure.gaps, known(rates(np.ones((1, rows)))[0].mean(0)))
    is_ratio = np.array([gap.ratio for gap in measure.gaps])

    def values(weights: Array) -> Array:
        every = rates(weights)
        low, high = (known(every)[..., groups, which] for groups in (least, most))
        gaps = np.where(is_ratio, ratio(low, high), high - low)
        gaps = np.where(least == most, np.nan, gaps)  # of one group there is none
        return np.concatenate([every.reshape(*every.shape[:-2], -1), gaps], -1)

    found = intervals(values, draws, rows, seed=seed)
    size = len(measure.rates)
    told = [dict(zip(measure.rates, found[i * size :], strict=False)) for i in range(count)]
    apart = zip(measure.gaps, found[count * size :], strict=True)
    return ByGroup(told, {gap.name: _one_sided(interval, gap.ratio) for gap, interval in apart})


def _ends(gaps: tuple[Gap, ...], rates: Array) -> tuple[Array, Array, Array]:
    """Of each gap the group with the least and the one with the most of a rate, of rates [G, R], and the rate."""
    missing = np.isnan(rates)
    least = np.where(missing, np.inf, rates).argmin(0)
    most = (
        len(rates) - 1 - np.where(missing, -np.inf, rates)[::-1].argmax(0)
    )  # of equals the last: another one
    rate = np.arange(rates.shape[1])
    apart = np.nan_to_num(rates[most, rate] - rates[least, rate], nan=-1)
    which = np.array([max(gap.rates, key=lambda r: apart[r]) for gap in gaps])
    return least[which], most[which], which


def _one_sided(interval: Interval, is_ratio: bool) -> Interval:
    if is_ratio:
        return interval._replace(high=min(interval.high, 1.0))
    return interval._replace(low=max(interval.low, 0.0))
