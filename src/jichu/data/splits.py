"""Splits and draws of labels: seeded, stratified, and with duplicates kept on one side."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

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


def duplicate_groups(tensor: Tensor) -> np.ndarray:
    """An integer for each row [N]; rows that are equal to the last byte share it."""
    array = tensor.numpy()
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in array]
    return np.unique(np.frombuffer(b"".join(digests), np.int64), return_inverse=True)[1]
