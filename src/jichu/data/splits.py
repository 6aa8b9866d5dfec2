"""Splits and draws of labels: seeded, stratified, and with duplicates kept on one side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.randomness import generator

from .source import UNLABELLED


def _shuffled(rows: np.ndarray, *keys: object) -> np.ndarray:
    return rows[torch.randperm(len(rows), generator=generator(*keys)).numpy()]


def _by_class(labels: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each class with those of the rows that are of it, in their order."""
    ordered = rows[np.argsort(labels[rows], kind="stable")]
    codes, starts, counts = np.unique(labels[ordered], return_index=True, return_counts=True)
    for code, start, count in zip(codes.tolist(), starts, counts, strict=True):
        yield code, ordered[start : start + count]


def stratified(
    labels: np.ndarray, shares: dict[str, float], *, seed: int, groups: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Rows of each named share and of `train`, which gets the rest, with each class in proportion.

    labels: int [N]; rows with -1 all go to `train`; where there are no labels, zeros. groups: int [N]; rows of
    one group stay together (a group counts as its first row's class). Each class keeps a group in `train`.
    """
    if groups is None or (groups[1:] > groups[:-1]).all():  # each row is a group
        first = member = np.arange(len(labels))
    else:
        _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    names = ["train", *shares]
    owner = np.zeros(len(first), np.int8)  # a place in `names`
    # a group with an unlabelled row is for training: what is held out must be labelled
    blind = np.zeros(len(first), bool)
    blind[member[labels == UNLABELLED]] = True
    for code, mine in _by_class(labels[first], np.flatnonzero(~blind)):
        mine = _shuffled(mine, "split", seed, code)
        start = 0
        for place, share in enumerate(shares.values(), 1):
            count = min(round(share * len(mine)), len(mine) - start - 1)
            owner[mine[start : start + max(0, count)]] = place
            start += max(0, count)
    split_of = owner[member]
    return {name: np.flatnonzero(split_of == place) for place, name in enumerate(names)}


def draw_labels(
    labels: np.ndarray, rows: np.ndarray, per_class: int | float, *, seed: int, draw: int
) -> np.ndarray:
    """`per_class` rows of each class out of `rows` (all of a class that has fewer), or, where that is a fraction,
    such a share of them, one at least; sorted."""
    chosen = []
    for code, mine in _by_class(labels, rows[labels[rows] != UNLABELLED]):
        count = per_class if isinstance(per_class, int) else max(1, round(per_class * len(mine)))
        chosen.append(_shuffled(mine, "draw", seed, draw, code)[:count])
    if not chosen:
        raise DataError("no labelled rows to draw from", expected="rows with a label")
    return np.sort(np.concatenate(chosen))


def latest(times: np.ndarray, shares: dict[str, float]) -> dict[str, np.ndarray]:
    """Rows of each share and of `train`: the latest are the last share's, what is before them the one's
    before it. times: [N]; rows without a time go to `train`, rows of one instant stay together, so that a
    share may be larger than asked for. DataError where there are fewer instants than shares."""
    known = np.sort(times[~np.isnan(times)])
    instants = np.unique(known)
    if len(instants) <= len(shares):
        raise DataError(
            f"{len(instants)} different times to split by",
            where="data.split.time", expected=f"at least {len(shares) + 1} dates or numbers",
        )  # fmt: skip
    found, before = {}, np.inf
    taken, left = 0.0, len(shares)
    for name, share in reversed(shares.items()):
        taken, left = taken + share, left - 1
        # at least one instant in this share, and one for each of those before it and for the training rows
        place = np.searchsorted(instants, np.quantile(known, 1 - taken, method="lower"))
        last = np.searchsorted(instants, before, side="right") - 1
        after = instants[min(max(place, left), last - 1)]
        found[name] = np.flatnonzero((times > after) & (times <= before))
        before = after
    held_out = np.concatenate([*found.values(), np.empty(0, np.int64)])
    return {"train": np.setdiff1d(np.arange(len(times)), held_out), **dict(reversed(found.items()))}


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups [N] in which rows are together that are so in `one` or in `other`, or by a chain of both."""
    from scipy.sparse import coo_array  # here, because most splits do without
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(one)), (one, other + one.max() + 1)))
    size = max(edges.shape)
    square = coo_array((edges.data, edges.coords), shape=(size, size))
    return connected_components(square, directed=False)[1][one]


def evenly(rows: Tensor, most: int) -> Tensor:
    """At most so many rows, evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=torch.float64).round().long()]
