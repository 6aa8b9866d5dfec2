"""How well features tell which rows belong together: found by a query, or compared two at a time.

Features [N, D] are compared by the cosine. Rows of one class belong together (a person, an object, a product).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .intervals import Interval, mean_interval
from .ranking import area, found_at, roc

_PAIRED = 1500  # rows of which every pair is compared; of more an even sample
_RESAMPLES = 200
_FALSE = 0.01  # share of pairs of strangers that may be taken for one
_AT_ONCE = 1024
_SPARE = 16  # candidates more than are wanted
_CLOSE = 4e-6  # cosines in float32 that are no further apart may be the same
_TIED = 1024  # rows that are looked at where more than those may be
_CELLS = 2**22  # distances held at once


def normalised(features: np.ndarray) -> np.ndarray:
    """Rows of length 1; 0 stays."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def nearest(features: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of features [N, D] that are nearest to each query [Q, D], all where there are fewer: their places [Q, k]
    and their distances, one less the cosine, from 0 to 2. Every row is compared, a block at a time, so that a million take
    little memory; of rows that are equally far the earlier come first."""
    asked = normalised(queries)
    likeness, places = np.empty((len(asked), 0), np.float32), np.empty((len(asked), 0), np.int64)
    for start, block in _blocks(features, asked):
        likeness = np.concatenate([likeness, block], 1)
        here = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        places = np.concatenate([places, here], 1)
        if likeness.shape[1] > k + _SPARE:  # the last digits are looked at below
            best = np.argpartition(-likeness, k + _SPARE - 1, axis=1)[:, : k + _SPARE]
            likeness, places = np.take_along_axis(likeness, best, 1), np.take_along_axis(places, best, 1)
    found = [_first(features, p, q, k) for p, q in zip(places, asked, strict=True)]
    if len(features) > k + _SPARE:
        least = -np.partition(-likeness, k - 1, axis=1)[:, k - 1] - _CLOSE
        for i in np.flatnonzero(
            likeness.min(1) >= least
        ).tolist():  # others that are as far may have been left out
            again = np.union1d(places[i], _reaching(features, asked[i : i + 1], least[i], k + _TIED))
            found[i] = _first(features, again, asked[i], k)
    shape = len(asked), min(k, len(features))
    at, far = np.empty(shape, np.int64), np.empty(shape)
    for i, (place, distance) in enumerate(found):
        at[i], far[i] = place, distance
    return at, far


def _blocks(features: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The cosine of queries of length 1 [Q, D] with some rows after the other, [Q, n], from which row on."""
    size = max(1, _CELLS // max(1, len(asked)))
    for start in range(0, len(features), size):
        block = features[start : start + size].astype(np.float32, copy=False)
        lengths = np.maximum(np.linalg.norm(block, axis=1), 1e-12)
        yield start, asked.astype(np.float32) @ block.T / lengths


def _reaching(features: np.ndarray, asked: np.ndarray, least: float, most: int) -> np.ndarray:
    """The first places of rows whose cosine with one query [1, D] is no less than that, so many at most."""
    found = np.empty(0, np.int64)
    for start, block in _blocks(features, asked):
        found = np.concatenate([found, start + np.flatnonzero(block[0] >= least)])
        if len(found) >= most:
            break
    return found[:most]


def _first(
    features: np.ndarray, places: np.ndarray, query: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of the rows at some places, and how far they are."""
    distance = np.clip(1 - normalised(features[places]) @ query, 0, 2)
    order = np.lexsort((places, distance.round(12)))[:k]
    return places[order], distance[order]


def retrieval(
    features: np.ndarray, classes: np.ndarray, ranks: tuple[int, ...] = (1, 5), seed: int = 0
) -> dict[str, Interval]:
    """Each row asks for its like among all others: `recall_at_k`, whether one of the first k is of its class, and
    `mean_average_precision`. A row that is alone in its class asks nothing."""
    unit = normalised(features)
    counts = np.bincount(classes)
    asking = np.flatnonzero(counts[classes] > 1)
    hits: dict[int, list[np.ndarray]] = {k: [] for k in ranks}
    precision = []
    for start in range(0, len(asking), _AT_ONCE):
        rows = asking[start : start + _AT_ONCE]
        likeness = unit[rows] @ unit.T
        likeness[np.arange(len(rows)), rows] = -np.inf  # itself comes last
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :-1]
        same = classes[order] == classes[rows, None]
        for k in ranks:
            hits[k].append(same[:, :k].any(1))
        found = same.cumsum(1) / np.arange(1, same.shape[1] + 1)
        precision.append((found * same).sum(1) / same.sum(1))
    named = {f"recall_at_{k}": np.concatenate(parts or [np.zeros(0)]) for k, parts in hits.items()}
    named["mean_average_precision"] = np.concatenate(precision or [np.zeros(0)])
    return {
        name: mean_interval(values.astype(np.float64), seed=seed)
        for name, values in named.items()
        if len(values)
    }


def verification(features: np.ndarray, classes: np.ndarray, seed: int = 0) -> dict[str, Interval]:
    """Is a pair of one class or of two? `verification_auroc`; `equal_error_rate`, where as many of both kinds are taken
    wrongly; and `accepted_at_1%`, the share of pairs of one class above what 1% of the others reach. Rows are resampled,
    not pairs, which share them. Empty where there are not both kinds of pairs."""
    rows = np.arange(len(features))[:: max(1, -(-len(features) // _PAIRED))]
    unit, classes = normalised(features[rows]), classes[rows]
    one, two = np.triu_indices(len(rows), 1)
    likeness, same = (unit @ unit.T)[one, two], classes[one] == classes[two]
    if not same.any() or same.all():
        return {}
    order = np.argsort(-likeness)  # once for all samples: what is in order is sorted quickly
    one, two, same, likeness = one[order], two[order], same[order], likeness[order]
    rng = np.random.default_rng(seed)
    samples: list[np.ndarray] = [np.ones(len(rows))]
    samples += [
        np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows)) for _ in range(_RESAMPLES)
    ]
    found = np.array([_rates(same, likeness, weight[one] * weight[two]) for weight in samples])
    names = ("verification_auroc", "equal_error_rate", "accepted_at_1%")
    return {name: Interval.of(found[0, i], found[1:, i]) for i, name in enumerate(names)}


def _rates(same: np.ndarray, likeness: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    accepted, mistaken = roc(same, likeness, weight[None].astype(np.float64))
    place = int(np.argmin(np.abs(1 - accepted[0] - mistaken[0])))
    equal = float((1 - accepted[0, place] + mistaken[0, place]) / 2)
    return float(area(accepted, mistaken)[0]), equal, float(found_at(accepted, mistaken, _FALSE)[0])
