"""Splits and draws of labels: seeded, stratified, and with duplicates kept on one side."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jichu.core.errors import DataError
from jichu.core.randomness import generator

from .source import UNLABELLED


def _shuffled(rows: np.ndarray, *keys: object) -> np.ndarray:
    return rows[torch.randperm(len(rows), generator=generator(*keys)).numpy()]


def stratified(
    labels: np.ndarray, shares: dict[str, float], *, seed: int, groups: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Rows of each named share and of `train`, which gets the rest, with each class in proportion.

    labels: int [N]; rows with -1 all go to `train`; where there are no labels, zeros. groups: int [N]; rows of one group stay together
    (a group counts as its first row's class). A class with at least two groups keeps one in `train`.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    owner = np.full(len(first), "train", dtype=object)
    # a group with an unlabelled row is for training: what is held out must be labelled
    blind = np.zeros(len(first), bool)
    np.logical_or.at(blind, member, labels == UNLABELLED)
    for code in np.unique(labels[labels != UNLABELLED]):
        mine = _shuffled(np.flatnonzero((labels[first] == code) & ~blind), "split", seed, int(code))
        start = 0
        for name, share in shares.items():
            count = min(round(share * len(mine)), len(mine) - start - 1)
            owner[mine[start : start + max(0, count)]] = name
            start += max(0, count)
    split_of = owner[member]
    return {name: np.flatnonzero(split_of == name) for name in ["train", *shares]}


def draw_labels(labels: np.ndarray, rows: np.ndarray, per_class: int, *, seed: int, draw: int) -> np.ndarray:
    """`per_class` rows of each class out of `rows` (all of a class that has fewer), sorted."""
    chosen = []
    for code in np.unique(labels[rows]):
        if code != UNLABELLED:
            mine = _shuffled(rows[labels[rows] == code], "draw", seed, draw, int(code))
            chosen.append(mine[:per_class])
    if not chosen:
        raise DataError("no labelled rows to draw from", expected="rows with a label")
    return np.sort(np.concatenate(chosen))


def latest(times: np.ndarray, shares: dict[str, float]) -> dict[str, np.ndarray]:
    """Rows of each share and of `train`: the latest are the last share's, what is before them the one's
    before it. times: [N]; rows without a time go to `train`, rows of one instant stay together."""
    known = np.flatnonzero(~np.isnan(times))
    if not len(known):
        raise DataError("no row has a time to split by", expected="dates or numbers")
    found, before = {}, np.inf
    taken = 0.0
    for name, share in reversed(shares.items()):
        taken += share
        after = np.quantile(times[known], 1 - taken, method="lower")
        found[name] = np.flatnonzero((times > after) & (times <= before))
        before = after
    held_out = np.concatenate([*found.values(), np.empty(0, np.int64)])
    return {"train": np.setdiff1d(np.arange(len(times)), held_out), **dict(reversed(found.items()))}


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups [N] in which rows are together that are so in `one` or in `other`, or by a chain of both."""
    edges = coo_array((np.ones(len(one)), (one, other + one.max() + 1)))
    size = max(edges.shape)
    square = coo_array((edges.data, edges.coords), shape=(size, size))
    return connected_components(square, directed=False)[1][one]
