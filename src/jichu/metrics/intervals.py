"""Percentile bootstrap intervals (Efron, 1979), also paired and over repeated draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_RESAMPLES, _CHUNK = 2000, 200
_SLOW_RESAMPLES = 200  # for metrics that must be called anew on each resample


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


def _counts(rng: np.random.Generator, items: int, resamples: int) -> np.ndarray:
    """How often each item is in each resample, [resamples, items]."""
    if items == 1:
        return np.ones((resamples, 1))
    return rng.multinomial(items, np.full(items, 1 / items), size=resamples).astype(np.float64)


def mean_interval(values: np.ndarray, *, seed: int = 0) -> Interval:
    """The mean of values [D, N] for D draws and N held-out rows. Draws and rows are resampled
    independently (Owen, 2007), so that the interval covers both sources of chance; for a paired
    comparison give the difference."""
    values = np.atleast_2d(values)
    draws, rows = values.shape
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(_RESAMPLES // _CHUNK):  # in parts, for memory
        by_draw, by_row = _counts(rng, draws, _CHUNK), _counts(rng, rows, _CHUNK)
        resampled.append(((by_row @ values.T) * by_draw).sum(1) / (draws * rows))
    return Interval.of(values.mean(), np.concatenate(resampled))


def bootstrap(
    statistic: Callable[[int, np.ndarray], float], draws: int, rows: int, *, seed: int = 0
) -> Interval:
    """The mean over draws of statistic(draw, rows [n]), for what is no mean over rows."""
    rng = np.random.default_rng(seed)

    def mean(which: np.ndarray, picked: np.ndarray) -> float:
        return float(np.mean([statistic(d, picked) for d in which]))

    resampled = [
        mean(rng.integers(draws, size=draws), rng.integers(rows, size=rows)) for _ in range(_SLOW_RESAMPLES)
    ]
    return Interval.of(mean(np.arange(draws), np.arange(rows)), np.array(resampled))


def metric_interval(
    metric: Callable[..., Any], truth: np.ndarray, scores: np.ndarray, *, seed: int = 0
) -> Interval:
    """Any metric of truth [N] and scores [D, N, K], averaged over the D draws."""
    if hasattr(metric, "per_row"):
        return mean_interval(np.stack([metric.per_row(truth, s) for s in scores]), seed=seed)
    return bootstrap(lambda d, rows: metric(truth[rows], scores[d][rows]), *scores.shape[:2], seed=seed)
