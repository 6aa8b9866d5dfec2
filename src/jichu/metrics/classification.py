"""Classification metrics: truth [N] codes and probabilities [N, K] in, a number out.

One that is a mean over rows carries its row values as `.per_row`, which makes its intervals exact
in cost and in kind: whole tables are resampled by one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def mean_of(per_row: Callable[[Array, Array], Array]) -> Any:
    """A metric that is the mean of a value for each row."""

    def metric(truth: Array, scores: Array) -> float:
        return float(per_row(truth, scores).mean())

    metric.per_row = per_row  # type: ignore[attr-defined]
    metric.__name__, metric.__doc__ = per_row.__name__, per_row.__doc__
    return metric


@mean_of
def accuracy(truth: Array, scores: Array) -> Array:
    """1 where the most probable class is the true one."""
    return (scores.argmax(1) == truth).astype(np.float64)


@mean_of
def top5_accuracy(truth: Array, scores: Array) -> Array:
    """1 where the true class is among the five most probable."""
    five = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return (five == truth[:, None]).any(1).astype(np.float64)


@mean_of
def log_loss(truth: Array, scores: Array) -> Array:
    """-log of the probability of the true class, in nats; probabilities below 1e-15 count as that."""
    return -np.log(np.clip(scores[np.arange(len(truth)), truth], 1e-15, None))


log_loss.lower_is_better = True


def confusion(truth: Array, scores: Array) -> Array:
    """Counts [K, K]: rows are true classes, columns predicted ones."""
    k = scores.shape[1]
    return np.bincount(truth * k + scores.argmax(1), minlength=k * k).reshape(k, k)


def by_class(truth: Array, scores: Array) -> dict[str, Array]:
    """Precision, recall, F1 and support [K]; what has no rows to count is NaN (F1: 0 over 0)."""
    counts = confusion(truth, scores)
    hits = np.diag(counts).astype(float)
    support, predicted = counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore"):
        return {
            "precision": hits / predicted,
            "recall": hits / support,
            "f1": 2 * hits / (support + predicted),
            "support": support,
        }


def balanced_accuracy(truth: Array, scores: Array) -> float:
    """The mean recall of the classes that occur."""
    return float(np.nanmean(by_class(truth, scores)["recall"]))


def macro_f1(truth: Array, scores: Array) -> float:
    """The mean F1 of the classes that occur or are predicted."""
    return float(np.nanmean(by_class(truth, scores)["f1"]))
