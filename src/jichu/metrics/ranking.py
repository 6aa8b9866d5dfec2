"""How well probabilities put the rows in order, whatever their threshold.

Of two classes the second is ranked; of more classes each against the rest, and of several labels each,
and the mean is taken over those for which there are such rows and others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .base import LABELS, Array, Weighted, mean_of_defined, ratio


def _over_classes(one: Callable[..., Array], truth: Array, scores: Array, *rest: Any) -> Array:
    """The mean of `one(true [N] bool, score [N], ...) -> [R]` over classes or labels."""
    if truth.ndim == 2:
        columns = [(truth[:, c] == 1, scores[:, c]) for c in range(scores.shape[1])]
    else:
        first = 1 if scores.shape[1] == 2 else 0
        columns = [(truth == c, scores[:, c]) for c in range(first, scores.shape[1])]
    return mean_of_defined(np.stack([one(true, score, *rest) for true, score in columns]), axis=0)


def _reaching(score: Array, weights: Array, levels: Array) -> tuple[Array, Array]:
    """How much weight is at or above each level, and how much above it, [R, L]."""
    order = np.argsort(-score)
    sums = np.pad(weights[:, order].cumsum(1), ((0, 0), (1, 0)))
    at, above = (np.searchsorted(-score[order], -levels, side=side) for side in ("right", "left"))
    return sums[:, at], sums[:, above]


def _thresholds(true: Array, score: Array, weights: Array) -> tuple[Array, Array, Array]:
    """At each score of a true row as threshold, the highest first: how many true rows [R, L] reach it, how
    many others do, and how many others surpass it."""
    levels = np.unique(score[true])[::-1]
    hits, _ = _reaching(score[true], weights[:, true], levels)
    return hits, *_reaching(score[~true], weights[:, ~true], levels)


@partial(Weighted, tasks=LABELS)
def auroc(truth: Array, scores: Array, weights: Array) -> Array:
    """Area under the ROC curve: how often a row of the class is scored above another, equal scores being
    half (Hanley and McNeil, 1982)."""
    return _over_classes(_area, truth, scores, weights)


def _area(true: Array, score: Array, weights: Array) -> Array:
    hits, reach, surpass = _thresholds(true, score, weights)
    ours, others = weights[:, true].sum(1), weights[:, ~true].sum(1)
    lost = (np.diff(hits, prepend=0) * (reach + surpass)).sum(1) / 2
    return ratio(ours * others - lost, ours * others)


@partial(Weighted, tasks=LABELS)
def average_precision(truth: Array, scores: Array, weights: Array) -> Array:
    """The precision at the score of each row of the class, averaged: area under the precision-recall
    curve taken as steps."""
    return _over_classes(_precision, truth, scores, weights)


def _precision(true: Array, score: Array, weights: Array) -> Array:
    hits, reach, _ = _thresholds(true, score, weights)
    precision = ratio(hits, hits + reach, 0.0)
    return ratio((np.diff(hits, prepend=0) * precision).sum(1), weights[:, true].sum(1))


@partial(Weighted, tasks=LABELS)
def recall_at_specificity(
    truth: Array, scores: Array, weights: Array, specificity: Annotated[float, Field(ge=0, le=1)] = 0.95
) -> Array:
    """The highest recall at a threshold that leaves at least this share of the other rows below it."""
    return _over_classes(_recall, truth, scores, weights, specificity)


def _recall(true: Array, score: Array, weights: Array, specificity: float) -> Array:
    hits, reach, _ = _thresholds(true, score, weights)
    ours, others = weights[:, true].sum(1), weights[:, ~true].sum(1)
    allowed = ratio(others[:, None] - reach, others[:, None]) >= specificity
    return ratio(np.where(allowed, hits, 0).max(1, initial=0), np.where(others > 0, ours, 0))
