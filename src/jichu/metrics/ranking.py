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

_ROUNDING = 1e-12  # of a share


def _over_classes(one: Callable[..., Array], truth: Array, scores: Array, *rest: Any) -> Array:
    """The mean of `one(true [N] bool, score [N], ...) -> [R]` over classes or labels."""
    if truth.ndim == 2:
        columns = [(truth[:, c] == 1, scores[:, c]) for c in range(scores.shape[1])]
    else:
        first = 1 if scores.shape[1] == 2 else 0
        columns = [(truth == c, scores[:, c]) for c in range(first, scores.shape[1])]
    return mean_of_defined(np.stack([one(true, score, *rest) for true, score in columns]), axis=0)


def _reaching(true: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """How much weight of true rows [R, K], and of others, is at or above each score that there is, the highest first."""
    order = np.argsort(-score, kind="stable")
    score, true, weights = score[order], true[order], weights[:, order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], np.ones(min(1, len(score)), bool)))
    return (weights * true).cumsum(1)[:, last], (weights * ~true).cumsum(1)[:, last]


def roc(true: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """Shares of the true rows [R, K + 1], and of the others, that reach a threshold as it falls, from none to all; NaN where
    there are no such rows."""
    counts = (np.pad(reached, ((0, 0), (1, 0))) for reached in _reaching(true, score, weights))
    found, mistaken = (ratio(count, count[:, -1:]) for count in counts)
    return found, mistaken


def area(found: Array, mistaken: Array) -> Array:
    """Under the ROC curve [R, K + 1], equal scores being half."""
    return ((found[:, 1:] + found[:, :-1]) / 2 * np.diff(mistaken)).sum(1)


def found_at(found: Array, mistaken: Array, at: float) -> Array:
    """The largest share that is found [R] where at most this share is mistaken."""
    undefined = np.isnan(mistaken[:, -1]) | np.isnan(found[:, -1])
    return np.where(undefined, np.nan, np.where(mistaken <= at + _ROUNDING, found, 0).max(1))


@partial(Weighted, tasks=LABELS)
def auroc(truth: Array, scores: Array, weights: Array) -> Array:
    """Area under the ROC curve: how often a row of the class is scored above another, equal scores being
    half (Hanley and McNeil, 1982)."""
    return _over_classes(_area, truth, scores, weights)


def _area(true: Array, score: Array, weights: Array) -> Array:
    return area(*roc(true, score, weights))


@partial(Weighted, tasks=LABELS)
def average_precision(truth: Array, scores: Array, weights: Array) -> Array:
    """The precision at the score of each row of the class, averaged: area under the precision-recall
    curve taken as steps."""
    return _over_classes(_precision, truth, scores, weights)


def _precision(true: Array, score: Array, weights: Array) -> Array:
    hits, others = _reaching(true, score, weights)
    precision = ratio(hits, hits + others, 0.0)
    return ratio((np.diff(hits, prepend=0) * precision).sum(1), weights[:, true].sum(1))


@partial(Weighted, tasks=LABELS)
def recall_at_specificity(
    truth: Array, scores: Array, weights: Array, specificity: Annotated[float, Field(ge=0, le=1)] = 0.95
) -> Array:
    """The highest recall at a threshold that leaves at least this share of the other rows below it."""
    return _over_classes(_recall, truth, scores, weights, specificity)


def _recall(true: Array, score: Array, weights: Array, specificity: float) -> Array:
    return found_at(*roc(true, score, weights), 1 - specificity)
