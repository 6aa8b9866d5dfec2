"""Whether probabilities are what they say: errors of calibration, scalings that mend them, and sets that hold the truth as
often as was promised. Scores are probabilities [N, K] of classes, truth codes [N]."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.special import logsumexp, softmax

from .base import Array, OfSums, ratio

_LEAST = 1e-300  # of a probability, whose logarithm is taken
Scaling = Callable[[Array], Array]  # of scores [n, K]
By = Literal["width", "mass"]
Count = Annotated[int, Field(ge=1)]


class Bins(NamedTuple):
    """Rows by how sure the prediction was: mean confidence, share that was right, and count of each bin that has any."""

    confidence: Array
    accuracy: Array
    rows: Array


def _places(confidence: Array, count: int, by: By) -> Array:
    """The bin [N] of each row."""
    if by == "width":  # between 0 and 1; the upper edge belongs to a bin, as in Guo et al.
        return np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    place = np.empty(len(confidence), int)  # as many rows each
    place[np.argsort(confidence, kind="stable")] = (
        np.arange(len(confidence)) * count // max(1, len(confidence))
    )
    return place


def bins(truth: Array, scores: Array, count: int = 15, by: By = "width") -> Bins:
    """Bins of equal width, or of as many rows each."""
    confidence, right = scores.max(1), (scores.argmax(1) == truth).astype(np.float64)
    place = _places(confidence, count, by)
    rows = np.bincount(place, minlength=count)
    some = rows > 0
    mean = [np.bincount(place, v, count)[some] / rows[some] for v in (confidence, right)]
    return Bins(mean[0], mean[1], rows[some])


def _excess(truth: Array, scores: Array, count: Count = 15, by: By = "width") -> Array:
    """[N, bins + 1]: by how much a row's confidence is above whether it was right, in its bin, and one."""
    confidence = scores.max(1)
    found = np.zeros((len(truth), count + 1))
    found[np.arange(len(truth)), _places(confidence, count, by)] = confidence - (scores.argmax(1) == truth)
    found[:, count] = 1
    return found


@partial(OfSums, parts=_excess, tasks=("classification",), lower_is_better=True, excess=True)
def ece(sums: Array) -> Array:
    """Expected calibration error (Naeini et al., 2015; Guo et al., 2017, arXiv 1706.04599): how far confidence and
    accuracy are apart in a bin, on average over rows."""
    return ratio(np.abs(sums[..., :-1]).sum(-1), sums[..., -1])


def _logits(scores: Array) -> Array:
    return np.log(np.clip(scores, _LEAST, None))


def _loss(logits: Array, truth: Array) -> float:
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]).mean())


def temperature(truth: Array, scores: Array) -> tuple[Scaling, float]:
    """All logits divided by one number, the one with the least loss (Guo et al., 2017); it, and what does so. The order
    of the classes, and so accuracy, stays. That its logarithm is about 0 ± 1 is known beforehand: else a model that is
    right on every row would be made as sure as can be."""
    from scipy.optimize import minimize_scalar

    logits = _logits(scores)
    found = minimize_scalar(
        lambda t: _loss(logits / math.exp(t), truth) + t * t / (2 * len(truth)),
        bounds=(-5, 5),
        method="bounded",
    )
    value = math.exp(found.x)
    return lambda other: softmax(_logits(other) / value, axis=1), value


def vector(truth: Array, scores: Array) -> Scaling:
    """Each class's logit with a factor and an offset of its own (Guo et al., 2017)."""
    from scipy.optimize import minimize

    logits, k = _logits(scores), scores.shape[1]
    here = np.eye(k)[truth]

    def loss(parameters: Array) -> tuple[float, Array]:
        factors, offsets = parameters[:k], parameters[k:]
        scaled = logits * factors + offsets
        off = (softmax(scaled, axis=1) - here) / len(truth)
        return _loss(scaled, truth), np.concatenate([(off * logits).sum(0), off.sum(0)])

    begun = np.concatenate([np.ones(k), np.zeros(k)])
    found = minimize(loss, begun, jac=True, method="L-BFGS-B").x
    return lambda other: softmax(_logits(other) * found[:k] + found[k:], axis=1)


def isotonic(truth: Array, scores: Array) -> Scaling:
    """Each class's probability by a rising curve of its own, then divided by their sum (Zadrozny and Elkan, 2002)."""
    from sklearn.isotonic import IsotonicRegression

    curves = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores[:, k], truth == k)
        for k in range(scores.shape[1])
    ]

    def scaled(other: Array) -> Array:
        found = np.stack([curve.predict(other[:, k]) for k, curve in enumerate(curves)], 1)
        total = found.sum(1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1])

    return scaled


def threshold(strangeness: Array, level: float) -> float:
    """The strangeness that a new row stays below with probability `level` at least, if it is drawn like these [n]
    (split conformal prediction: Papadopoulos et al., 2002; Vovk et al., 2005); infinite of too few rows."""
    place = math.ceil((len(strangeness) + 1) * level)
    return math.inf if place > len(strangeness) else float(np.sort(strangeness)[place - 1])


def sets(
    truth: Array, scores: Array, level: float, method: Literal["least", "adaptive"] = "least"
) -> Scaling:
    """What gives the sets [n, K], bool, of scores [n, K], that hold the true class with probability `level`: as small as
    can be on average (Sadinle et al., 2019), or `adaptive`, of more classes where a row is harder (Romano et al., 2020,
    without its random part)."""
    rows = np.arange(len(truth))
    limit = threshold(_strange(scores, method)[rows, truth], level)
    return lambda other: _strange(other, method) <= limit


def _strange(scores: Array, method: Any) -> Array:
    """How strange each class [n, K] would be: one less its probability, or the sum of those from the largest to it."""
    if method == "least":
        return 1 - scores
    order = np.argsort(-scores, axis=1, kind="stable")
    summed = np.take_along_axis(scores, order, 1).cumsum(1)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, summed, 1)
    return found
