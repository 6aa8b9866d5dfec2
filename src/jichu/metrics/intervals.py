"""Percentile bootstrap intervals (Efron, 1979), also paired and over repeated draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from .base import MeanOf, Metric

_RESAMPLES = 2000
_FEW = 200  # where each takes long
_CELLS = 10**8  # resamples × scores that take a second or so
_CHUNK, _CHUNK_CELLS = 200, 2**24  # resamples weighed at once, for memory


class Interval(NamedTuple):
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    @classmethod
    def of(cls, value: float, resampled: np.ndarray) -> Interval:
        """The 2.5% and 97.5% points of resampled values around an estimate."""
        if np.isnan(resampled).all():
            return cls(float(value), math.nan, math.nan)
        low, high = np.nanquantile(resampled, [0.025, 0.975])
        return cls(float(value), float(low), float(high))

    @classmethod
    def of_excess(cls, value: float, resampled: np.ndarray) -> Interval:
        """Of what is not below 0 and what chance alone makes larger, in each resample once more: the basic interval (Davison
        and Hinkley, 1997), which takes that off."""
        _, low, high = cls.of(value, resampled)
        return cls(float(value), max(0.0, 2 * value - high), max(0.0, 2 * value - low))


def _counts(rng: np.random.Generator, items: int, resamples: int, block: int = 1) -> np.ndarray:
    """How often each item is in each resample, [resamples, items]; with `block` so many neighbours together (Künsch,
    1989)."""
    if block > 1:
        return np.repeat(_counts(rng, -(-items // block), resamples), block, axis=1)[:, :items]
    if items == 1:
        return np.ones((resamples, 1))
    picked = rng.integers(items, size=(resamples, items)) + items * np.arange(resamples)[:, None]
    return (
        np.bincount(picked.ravel(), minlength=resamples * items).reshape(resamples, items).astype(np.float64)
    )


def _resample(
    values: Callable[[np.ndarray], np.ndarray], draws: int, rows: int, seed: int, resamples: int = _RESAMPLES,
    block: int = 1,
) -> np.ndarray:  # fmt: skip
    """The mean over draws of values(weights [R, N]) -> [R, D, ...], for resamples of draws and rows."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    chunk = max(1, min(_CHUNK, _CHUNK_CELLS // rows))
    for start in range(0, resamples, chunk):
        n = min(chunk, resamples - start)
        by_draw, by_row = _counts(rng, draws, n), _counts(rng, rows, n, block)
        of_each = values(by_row)
        found.append((of_each * by_draw.reshape(*by_draw.shape, *[1] * (of_each.ndim - 2))).sum(1) / draws)
    return np.concatenate(found)


def share_interval(right: float, rows: float) -> Interval:
    """A share of a few rows, where resampling says nothing of none and of all: Wilson's interval (1927), also of mean counts,
    which scipy's does not take."""
    if not rows:
        return Interval(math.nan, 0.0, 1.0)
    share, z = right / rows, 1.959964
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def intervals(
    values: Callable[[np.ndarray], np.ndarray], draws: int, rows: int, *, seed: int = 0,
    excess: Collection[int] = (),
) -> list[Interval]:  # fmt: skip
    """The means over draws of values(weights [R, N]) -> [R, D, Q], Q numbers that are wanted of the same resamples; some of
    them larger by chance alone (`Interval.of_excess`)."""
    found = values(np.ones((1, rows)))[0].mean(0)
    resampled = _resample(values, draws, rows, seed)
    make = [Interval.of_excess if q in excess else Interval.of for q in range(len(found))]
    return [of(value, each) for of, value, each in zip(make, found, resampled.T, strict=True)]


def mean_interval(values: np.ndarray, *, seed: int = 0, block: int = 1) -> Interval:
    """The mean of values [D, N] for D draws and N held-out rows. Draws and rows are resampled
    independently (Owen, 2007), so that the interval covers both sources of chance; for a paired
    comparison give the difference. Of rows that overlap so many neighbours, a `block`, are resampled together. Of bool, the
    share in one draw has Wilson's interval, which is wide also where all rows are the same."""
    values = np.atleast_2d(values)
    draws, rows = values.shape
    if draws == block == 1 and values.dtype == bool:
        return share_interval(int(values.sum()), rows)

    def means(weights: np.ndarray) -> np.ndarray:
        return weights @ values.T / weights.sum(1, keepdims=True)

    return Interval.of(values.mean(), _resample(means, draws, rows, seed, block=block))


def resamples(
    statistic: Callable[[int, np.ndarray], Any], draws: int, rows: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over draws of statistic(draw, rows [n]) -> [...], and what it is in resamples of both, [R, ...]."""
    rng = np.random.default_rng(seed)

    def mean(which: np.ndarray, picked: np.ndarray) -> np.ndarray:
        return np.mean([statistic(d, picked) for d in which], 0)

    resampled = [mean(rng.integers(draws, size=draws), rng.integers(rows, size=rows)) for _ in range(_FEW)]
    return mean(np.arange(draws), np.arange(rows)), np.array(resampled)


def bootstrap(
    statistic: Callable[[int, np.ndarray], float], draws: int, rows: int, *, seed: int = 0
) -> Interval:
    """The mean over draws of statistic(draw, rows [n]), for what is no mean over rows."""
    value, resampled = resamples(statistic, draws, rows, seed=seed)
    return Interval.of(float(value), resampled)


def metric_interval(
    metric: Callable[..., Any],
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    against: np.ndarray | None = None,
    seed: int = 0,
    block: int = 1,
) -> Interval:
    """Any metric of truth [N, ...] and scores [D, N, ...], averaged over the D draws.

    With `against`, other scores of the same rows, their paired difference; scores of one draw are
    compared with every draw of the other. Of rows that overlap, a `block` of neighbours is resampled together, where the
    metric is a mean over rows.
    """
    sides = [scores] if against is None else [scores, against]
    draws, rows = max(map(len, sides)), len(truth)

    def less(one: Any, two: Any = 0) -> Any:
        return one - two

    if isinstance(metric, MeanOf):
        found = less(*(np.stack([metric.per_row(truth, s) for s in side]) for side in sides))
        is_share = against is None and np.isin(found, (0, 1)).all()
        return mean_interval(found.astype(bool) if is_share else found, seed=seed, block=block)
    if isinstance(metric, Metric):

        def values(weights: np.ndarray) -> np.ndarray:
            return less(*(np.stack([metric.weighted(truth, s, weights) for s in side], 1) for side in sides))

        resamples = int(np.clip(_CELLS // sum(side.size for side in sides), _FEW, _RESAMPLES))
        value = values(np.ones((1, rows))).mean()
        make = Interval.of_excess if metric.excess and against is None else Interval.of
        return make(value, _resample(values, draws, rows, seed, resamples))

    def statistic(d: int, picked: np.ndarray) -> float:
        return less(*(metric(truth[picked], side[d % len(side)][picked]) for side in sides))

    return bootstrap(statistic, draws, rows, seed=seed)
