"""What is right and wrong of predicted classes and their probabilities.

The predicted class is the most probable one; where a row may have several labels (multilabel), all
above one half are predicted.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from .base import LABELS, Array, MeanOf, OfSums, mean_of_defined, ratio
from .intervals import Interval, share_interval

_TINY = np.finfo(np.float64).eps  # probabilities nearer to 0 or 1 count as this near


@partial(MeanOf, tasks=LABELS)
def accuracy(truth: Array, scores: Array) -> Array:
    """1 where the most probable class is the true one; of several labels, where all are right."""
    if truth.ndim == 2:
        return ((scores > 0.5) == truth).all(1).astype(np.float64)
    return (scores.argmax(1) == truth).astype(np.float64)


def _among(truth: Array, scores: Array, k: int) -> Array:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # of equals the first, as in argmax
    return (best == truth[:, None]).any(1).astype(np.float64)


@partial(MeanOf, tasks=("classification",))
def top_k_accuracy(truth: Array, scores: Array, k: Annotated[int, Field(ge=1)] = 5) -> Array:
    """1 where the true class is among the k most probable."""
    return _among(truth, scores, k)


@partial(MeanOf, tasks=("classification",))
def top5_accuracy(truth: Array, scores: Array) -> Array:
    """1 where the true class is among the five most probable."""
    return _among(truth, scores, 5)


@partial(MeanOf, tasks=LABELS, lower_is_better=True)
def log_loss(truth: Array, scores: Array) -> Array:
    """-log of the probability of what is true, in nats; of several labels, the mean over them."""
    if truth.ndim == 2:
        return -np.log(np.clip(np.where(truth == 1, scores, 1 - scores), _TINY, 1 - _TINY)).mean(1)
    return -np.log(np.clip(scores[np.arange(len(truth)), truth], _TINY, 1 - _TINY))


@partial(MeanOf, tasks=LABELS, lower_is_better=True)
def brier(truth: Array, scores: Array) -> Array:
    """Squared errors of the probabilities: of two classes that of the second, of more classes the sum over
    them (Brier, 1950), of several labels the mean over them."""
    if truth.ndim == 2:
        return ((scores - truth) ** 2).mean(1)
    if scores.shape[1] == 2:
        return (scores[:, 1] - truth) ** 2
    return ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(1)


@partial(MeanOf, tasks=("multilabel",), lower_is_better=True)
def hamming_loss(truth: Array, scores: Array) -> Array:
    """The share of labels that are wrong."""
    return ((scores > 0.5) != truth).mean(1)


def confusion(truth: Array, scores: Array) -> Array:
    """Counts [K, K]: rows are true classes, columns predicted ones."""
    k = scores.shape[1]
    return np.bincount(truth * k + scores.argmax(1), minlength=k * k).reshape(k, k)


def _counts(truth: Array, scores: Array) -> Array | sparse.csr_array:
    """[N, 3 K]: whether a row is a hit of each class, is predicted to be of it, and is of it."""
    n, k = scores.shape
    if truth.ndim == 2:
        predicted, true = scores > 0.5, truth == 1
        return np.concatenate([predicted & true, predicted, true], 1).astype(np.float64)
    # few of many classes are not zero
    predicted = scores.argmax(1)
    columns = np.stack([truth, k + predicted, 2 * k + truth], 1)
    values = np.stack([predicted == truth, np.ones(n), np.ones(n)], 1)
    return sparse.csr_array((values.ravel(), columns.ravel(), np.arange(0, 3 * n + 1, 3)), shape=(n, 3 * k))


def by_class(counts: Array) -> dict[str, list[Interval]]:
    """Precision, recall and F1 of each class with Wilson's intervals, from a confusion matrix [K, K]; what has no rows to
    count is NaN. F1 is 2J / (1 + J) of Jaccard's share J, and so are the ends of its interval."""
    hits, predicted, support = counts.diagonal(), counts.sum(0), counts.sum(1)
    told = {"precision": predicted, "recall": support, "f1": predicted + support - hits}
    found = {n: [share_interval(h, rows) for h, rows in zip(hits, of, strict=True)] for n, of in told.items()}
    return found | {"f1": [Interval(*(2 * j / (1 + j) for j in share)) for share in found["f1"]]}


def _split(sums: Array) -> tuple[Array, Array, Array]:
    """Hits, predicted and support [..., K] out of summed counts."""
    hits, predicted, support = np.split(sums, 3, axis=-1)
    return hits, predicted, support


@partial(OfSums, parts=_counts, tasks=("classification",))
def balanced_accuracy(sums: Array) -> Array:
    """The mean recall of the classes that occur."""
    hits, _, support = _split(sums)
    return mean_of_defined(ratio(hits, support))


@partial(OfSums, parts=_counts, tasks=("classification",))
def matthews(sums: Array) -> Array:
    """The correlation of true and predicted classes (Matthews, 1975; Gorodkin, 2004, for more than two);
    0 where all rows are, or are predicted to be, of one class."""
    hits, predicted, support = _split(sums)
    rows = support.sum(-1)
    together = hits.sum(-1) * rows - (predicted * support).sum(-1)
    alone = (rows**2 - (predicted**2).sum(-1)) * (rows**2 - (support**2).sum(-1))
    return ratio(together, np.sqrt(alone), 0.0)


_AVERAGES = {
    "macro": "averaged over the classes that occur or are predicted",
    "micro": "of all classes counted together",
    "weighted": "averaged over the classes, each by how often it occurs",
}


def _averaged(quantity: Literal["precision", "recall", "f1"], average: str) -> OfSums:
    def of(sums: Array) -> Array:
        hits, predicted, support = _split(sums)
        above = 2 * hits if quantity == "f1" else hits
        below = {"precision": predicted, "recall": support, "f1": predicted + support}[quantity]
        occurs = predicted + support > 0
        if average == "micro":
            return np.where(occurs.any(-1), ratio(above.sum(-1), below.sum(-1), 0.0), np.nan)
        each = ratio(above, below, 0.0)
        if average == "weighted":
            return ratio((each * support).sum(-1), support.sum(-1))
        return mean_of_defined(np.where(occurs, each, np.nan))

    of.__name__ = f"{average}_{quantity}"
    of.__doc__ = f"{quantity.capitalize()}, {_AVERAGES[average]}; what divides by 0 counts as 0."
    return OfSums(of, parts=_counts, tasks=LABELS)


macro_precision, micro_precision, weighted_precision = (_averaged("precision", a) for a in _AVERAGES)
macro_recall, micro_recall, weighted_recall = (_averaged("recall", a) for a in _AVERAGES)
macro_f1, micro_f1, weighted_f1 = (_averaged("f1", a) for a in _AVERAGES)
