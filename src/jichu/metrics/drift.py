"""How far two samples of rows lie apart, and whether chance explains it.

A column becomes counts [..., 2, K], how many rows of the reference and of the logs fall into each of K cells. Which rows are
whose is then drawn anew without looking at them: under a permutation counts follow a multivariate hypergeometric
distribution, in a bootstrap resample two multinomial ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .base import Array
from .intervals import Interval

_RESAMPLES, _FEWER = 1000, 200  # of the bootstrap: of counts, and of distances between rows
_EQUAL = 1e-12  # by which sums differ that are taken in another order
_SEEN = 0.8  # how often a change is found that is called one that would be seen
Statistic = Callable[[Array], Array]


class Drift(NamedTuple):
    """How far apart, from 0 to 1; and how probable that much is by chance alone."""

    distance: Interval
    p: float


def _shares(counts: Array) -> tuple[Array, Array]:
    found = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return found[..., 0, :], found[..., 1, :]


def kolmogorov_smirnov(counts: Array) -> Array:
    """The largest difference of the shares up to a cell (Smirnov, 1939), of cells in order."""
    one, two = _shares(counts)
    return np.abs((one - two).cumsum(-1)).max(-1)


def total_variation(counts: Array) -> Array:
    """The share of the rows that would have to be in another cell."""
    one, two = _shares(counts)
    return np.abs(one - two).sum(-1) / 2


def chi_square(counts: Array) -> Array:
    """Pearson's statistic (1900) of whether both are one distribution."""
    of_cell, of_side = counts.sum(-2, keepdims=True), counts.sum(-1, keepdims=True)
    expected = of_cell * of_side / counts.sum((-2, -1), keepdims=True)
    return (np.square(counts - expected) / np.maximum(expected, 1e-300)).sum((-2, -1))


def psi(counts: Array) -> Array:
    """The population stability index (Siddiqi, 2006; twice Jeffreys' divergence), half a row being added to each cell, as
    empty ones would make it infinite. By a rule of thumb it is small below 0.1, and large from 0.25 on."""
    one, two = _shares(counts + 0.5)
    return ((two - one) * np.log(two / one)).sum(-1)


def by_chance(counts: Array, statistic: Statistic, draws: int, rng: np.random.Generator) -> float:
    """How probable a statistic of counts [2, K] as large is where logs and reference are one: by permutation, and exact, the
    rows as they are being one of the permutations (Phipson and Smyth, 2010)."""
    whole = counts.sum(0)
    logs = rng.multivariate_hypergeometric(whole, int(counts[1].sum()), size=draws)
    found = statistic(np.stack([whole - logs, logs], 1).astype(np.float64))
    return float((1 + (found >= statistic(counts.astype(np.float64)) - _EQUAL).sum()) / (1 + draws))


def interval(counts: Array, statistic: Statistic, rng: np.random.Generator) -> Interval:
    """A statistic of counts [2, K] that chance alone makes larger, with its interval by the bootstrap."""
    rows = counts.sum(1)
    drawn = [
        rng.multinomial(n, side / n, size=_RESAMPLES) if n else np.zeros((_RESAMPLES, len(side)))
        for n, side in zip(rows, counts, strict=True)
    ]
    found = statistic(np.stack(drawn, 1).astype(np.float64))
    return Interval.of_excess(float(statistic(counts.astype(np.float64))), found)


def energy(one: Array, two: Array, draws: int, rng: np.random.Generator) -> Drift:
    """The energy distance of features [N, D] and [M, D] (Székely and Rizzo, 2013) as a share of the mean distance between
    both, from 0 to 1, and its permutation test."""
    from scipy.spatial.distance import cdist

    rows = np.concatenate([one, two]).astype(np.float64)
    apart = cdist(rows, rows).astype(np.float32)
    side = np.arange(len(rows)) < len(one)

    def distances(weights: Array) -> tuple[Array, Array]:
        """Of rows weighed [R, N] twice the mean distance between the sides, and by how much it is above those within."""
        mine, theirs = (_unit(weights * of) for of in (side, ~side))
        of_mine, of_theirs = mine @ apart, theirs @ apart
        between = 2 * (of_mine * theirs).sum(1)
        return between, between - (of_mine * mine).sum(1) - (of_theirs * theirs).sum(1)

    between, energy = distances(np.ones((1, len(rows)), np.float32))
    # of rows that change sides only this changes: the quadratic form of the differences of their weights
    signs = np.where(side, 1 / len(one), -1 / len(two)).astype(np.float32)
    drawn = rng.permuted(np.tile(signs, (draws, 1)), axis=1)
    found = -((drawn @ apart) * drawn).sum(1)
    p = (1 + (found >= energy[0] * (1 - 1e-5) - _EQUAL).sum()) / (1 + draws)
    counts = [rng.multinomial(len(of), np.full(len(of), 1 / len(of)), size=_FEWER) for of in (one, two)]
    between_, energy_ = distances(np.concatenate(counts, 1).astype(np.float32))
    value = float(energy[0] / max(between[0], _EQUAL))
    return Drift(Interval.of_excess(max(0.0, value), energy_ / np.maximum(between_, _EQUAL)), float(p))


def _unit(weights: Array) -> Array:
    return weights / weights.sum(1, keepdims=True)


def smallest_seen(reference: int, logs: int, alpha: float) -> float:
    """The change of a share of about a half that a test at a level would find four times out of five, by the normal
    approximation: what can be seen with so many rows."""
    from scipy.stats import norm

    if not reference or not logs:
        return math.nan
    z = norm.isf(alpha / 2) + norm.isf(1 - _SEEN)
    return float(min(1.0, z * math.sqrt((1 / reference + 1 / logs) / 4)))
