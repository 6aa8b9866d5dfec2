"""How a model treats groups of rows: rates by group, and how far they are apart.

What a row counts for, [N, S], is summed by group; rates [..., G, R] and the gaps between groups are made of the sums
[..., G, S], so that all of them come out of the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .base import Array, ratio
from .intervals import Interval, intervals


class Measure(NamedTuple):
    """Rates of groups, and gaps between them."""

    rates: tuple[str, ...]
    gaps: tuple[str, ...]
    of: Callable[[Array], Array]  # sums [..., G, S] -> rates [..., G, R]
    between: Callable[[Array], Array]  # rates [..., G, R] -> gaps [..., gaps]


class ByGroup(NamedTuple):
    """What was measured: of each group its rates, and the gaps between groups."""

    rates: list[dict[str, Interval]]
    gaps: dict[str, Interval]


def decisions(due: Array, chosen: Array, odds: Array) -> Array:
    """[N, 6] of rows that are due a favourable decision or not [N], of those that get it (or with what probability), and
    of what the model thinks is its probability: 1, chosen, due, both, whether that is right, and the probability."""
    right = chosen * due + (1 - chosen) * (1 - due)
    return np.stack([np.ones(len(due)), chosen, due, chosen * due, right, odds], 1).astype(np.float64)


def _rates_of_decisions(sums: Array) -> Array:
    rows, chosen, due, both, right, odds = np.moveaxis(sums, -1, 0)
    return np.stack(
        [
            ratio(chosen, rows),
            ratio(both, due),
            ratio(chosen - both, rows - due),
            ratio(right, rows),
            ratio(odds - due, rows),
        ],
        -1,
    )


def _gaps_of_decisions(rates: Array) -> Array:
    low, high = _ends(rates)
    apart = high - low
    return np.stack(
        [
            apart[..., 0],
            ratio(low[..., 0], high[..., 0]),
            apart[..., 1],
            apart[..., 1:3].max(-1),
            apart[..., 3],
        ],
        -1,
    )


CLASSES = Measure(
    ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy", "confidence_above_rate"),
    (
        "demographic_parity_difference",
        "demographic_parity_ratio",
        "equal_opportunity_difference",
        "equalised_odds_difference",
        "accuracy_difference",
    ),
    _rates_of_decisions,
    _gaps_of_decisions,
)


def errors(truth: Array, predicted: Array) -> Array:
    """[N, 4] of numbers [N]: 1, what is predicted, by how much it is above the truth, and how far off."""
    return np.stack([np.ones(len(truth)), predicted, predicted - truth, np.abs(predicted - truth)], 1)


NUMBERS = Measure(
    ("mean_prediction", "mean_error", "mean_absolute_error"),
    ("mean_prediction_difference", "mean_error_difference", "mean_absolute_error_difference"),
    lambda sums: ratio(sums[..., 1:], sums[..., :1]),
    lambda rates: np.subtract(*_ends(rates)[::-1]),
)


def _ends(rates: Array) -> tuple[Array, Array]:
    """The least and the largest of the groups, [..., R]; NaN where fewer than two have the rate."""
    known = ~np.isnan(rates)
    enough = known.sum(-2) > 1
    low, high = (np.where(known, rates, fill) for fill in (np.inf, -np.inf))
    return np.where(enough, low.min(-2), np.nan), np.where(enough, high.max(-2), np.nan)


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
    intervals, from what the rows of each draw count for, [D, N, S], and the group of each row [N]."""
    compared = np.array(True) if compared is None else compared
    of_group = [np.flatnonzero(codes == group) for group in range(count)]

    def values(weights: Array) -> Array:
        sums = np.stack([weights[:, rows] @ parts[:, rows] for rows in of_group], -2)  # [D, R, G, S]
        rates = measure.of(sums.swapaxes(0, 1))
        gaps = measure.between(np.where(compared, rates, np.nan))
        return np.concatenate([rates.reshape(*rates.shape[:-2], -1), gaps], -1)

    found = intervals(values, *parts.shape[:2], seed=seed)
    size = len(measure.rates)
    rates = [dict(zip(measure.rates, found[i * size :], strict=False)) for i in range(count)]
    return ByGroup(rates, dict(zip(measure.gaps, found[count * size :], strict=True)))
