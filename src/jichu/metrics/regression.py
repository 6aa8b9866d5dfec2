"""How far predicted numbers are from true ones, in the units of the target.

Where quantiles are predicted, [N, Q], the point metrics look at the median, which must be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from jichu.core.errors import UsageError
from jichu.data.target import Task

from .base import Array, MeanOf, OfSums, Weighted, ratio

Quantiles = Annotated[Sequence[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
_REGRESSION: tuple[Task, ...] = ("regression",)


def _errors(truth: Array, scores: Array, quantiles: Sequence[float] | None) -> Array:
    """Prediction less truth [N]."""
    scores = scores.reshape(len(truth), -1)
    if scores.shape[1] > 1 and 0.5 not in (quantiles or ()):
        raise UsageError(
            f"{scores.shape[1]} numbers are predicted for each row, none of them known to be the median",
            expected="the metric pinball, or 0.5 among the quantiles",
        )
    column = list(quantiles or ()).index(0.5) if scores.shape[1] > 1 else 0
    return scores[:, column].astype(np.float64) - truth


@partial(MeanOf, tasks=_REGRESSION, lower_is_better=True)
def mse(truth: Array, scores: Array, quantiles: Quantiles | None = None) -> Array:
    """The squared error."""
    return _errors(truth, scores, quantiles) ** 2


@partial(MeanOf, tasks=_REGRESSION, lower_is_better=True)
def mae(truth: Array, scores: Array, quantiles: Quantiles | None = None) -> Array:
    """The absolute error."""
    return np.abs(_errors(truth, scores, quantiles))


@partial(MeanOf, tasks=_REGRESSION, lower_is_better=True)
def pinball(truth: Array, scores: Array, quantiles: Quantiles | None = None) -> Array:
    """The loss whose least expectation is at a quantile (Koenker and Bassett, 1978), averaged over the
    quantiles, which are those of the columns of the scores; without, the median."""
    levels = np.array(quantiles or [0.5])
    scores = scores.reshape(len(truth), -1).astype(np.float64)
    if scores.shape[1] != len(levels):
        raise UsageError(f"{scores.shape[1]} numbers are predicted for each row", expected=len(levels))
    short = truth[:, None] - scores
    return np.maximum(levels * short, (levels - 1) * short).mean(1)


def _moments(truth: Array, scores: Array, quantiles: Quantiles | None = None) -> Array:
    """[N, 4]: 1, the squared error, the truth around its middle, and the square of that."""
    error = _errors(truth, scores, quantiles)
    truth = truth.astype(np.float64)
    # a value that occurs, so that of a constant nothing is left, and little is lost by rounding
    truth = truth - truth[np.abs(truth - truth.mean()).argmin()]
    return np.stack([np.ones(len(truth)), error**2, truth, truth**2], 1)


@partial(OfSums, parts=_moments, tasks=_REGRESSION, lower_is_better=True)
def rmse(sums: Array) -> Array:
    """The root of the mean squared error."""
    return np.sqrt(sums[..., 1] / sums[..., 0])


@partial(OfSums, parts=_moments, tasks=_REGRESSION)
def r2(sums: Array) -> Array:
    """The share of the variance that is explained; not defined where the truth does not vary."""
    rows, error, middle, square = np.moveaxis(sums, -1, 0)
    variation = square - middle**2 / rows
    return 1 - ratio(error, np.where(variation > 1e-12 * square, variation, 0))


@partial(Weighted, tasks=_REGRESSION, lower_is_better=True)
def median_absolute_error(
    truth: Array, scores: Array, weights: Array, quantiles: Quantiles | None = None
) -> Array:
    """The median of the absolute errors."""
    errors = np.abs(_errors(truth, scores, quantiles))
    order = np.argsort(errors)
    seen, rows = weights[:, order].cumsum(1), weights.sum(1, keepdims=True)
    middle = [(seen > np.floor(at)).argmax(1) for at in ((rows - 1) / 2, rows / 2)]
    return errors[order][middle].mean(0)
