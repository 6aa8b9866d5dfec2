"""What a metric is: a number from truth and scores, which can be had of many resamples at once.

Truth and scores are, by task: classification codes [N] and probabilities [N, K]; multilabel 0 or 1 [N, K]
and probabilities [N, K]; regression numbers [N] and [N], or [N, Q] for quantiles. All truth is known.
Where a resample (or the data) lack what a metric needs, as AUROC needs two classes, it is NaN.

A resample is a row of whole weights [N]: how often it holds each row. So every metric here is written
once, for weights [R, N], and bootstrapped without being called again for each resample.
"""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from jichu.data.target import Task

Array = np.ndarray
LABELS: tuple[Task, ...] = ("classification", "multilabel")


class Metric(ABC):
    """`metric(truth, scores) -> float`. `tasks` are those it is for; `lower_is_better` of a loss; `excess` where chance alone
    makes it larger, as it does a sum of what differs from 0."""

    __name__: str

    def __init__(
        self, function: Callable[..., Any], tasks: tuple[Task, ...], *, lower_is_better: bool = False,
        excess: bool = False,
    ):  # fmt: skip
        functools.update_wrapper(self, function)  # name, explanation, and what arguments it takes
        self.function, self.tasks, self.lower_is_better = function, tasks, lower_is_better
        self.excess = excess
        self.arguments: dict[str, Any] = {}

    def bind(self, **arguments: Any) -> Metric:
        """The same metric with some of its arguments set, which its name then tells."""
        bound = copy.copy(self)
        bound.arguments = self.arguments | arguments
        bound.__name__ = f"{self.__name__}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
        return bound

    def __call__(self, truth: Array, scores: Array, **arguments: Any) -> float:
        metric = self.bind(**arguments) if arguments else self
        return float(metric.weighted(truth, scores, np.ones((1, len(truth))))[0])

    @abstractmethod
    def weighted(self, truth: Array, scores: Array, weights: Array) -> Array:
        """The metric of each of R resamples, given by weights [R, N]."""


class MeanOf(Metric):
    """The mean over rows of `per_row(truth, scores) -> [N]`."""

    def per_row(self, truth: Array, scores: Array) -> Array:
        """The value of each row."""
        return self.function(truth, scores, **self.arguments)

    def weighted(self, truth: Array, scores: Array, weights: Array) -> Array:
        return weights @ self.per_row(truth, scores) / weights.sum(1)


class OfSums(Metric):
    """`function(sums [..., S])` of what `parts(truth, scores) -> [N, S]` adds up to over the rows."""

    def __init__(self, function: Callable[..., Any], parts: Callable[..., Any], **about: Any):
        super().__init__(function, **about)
        self.parts = parts
        self.__wrapped__, self.__annotations__ = parts, parts.__annotations__  # which takes the arguments

    def weighted(self, truth: Array, scores: Array, weights: Array) -> Array:
        return self.function(weights @ self.parts(truth, scores, **self.arguments))


class Weighted(Metric):
    """Any other: `function(truth, scores, weights [R, N]) -> [R]`."""

    def weighted(self, truth: Array, scores: Array, weights: Array) -> Array:
        return self.function(truth, scores, weights, **self.arguments)


def ratio(numerator: Array, denominator: Array, otherwise: float = np.nan) -> Array:
    """A quotient, and `otherwise` where it divides by 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, otherwise)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def mean_of_defined(values: Array, axis: int = -1) -> Array:
    """The mean of what is not NaN; NaN where nothing else is."""
    return ratio(np.nansum(values, axis), (~np.isnan(values)).sum(axis))
