"""Rows that stand for many, and rows that those do not speak for."""

from __future__ import annotations

import numpy as np


def kernel(features: np.ndarray) -> np.ndarray:
    """How alike rows are, [N, N], 0 to 1: Gaussian, as wide as the median distance."""
    x = features.astype(np.float64)
    square = np.square(x).sum(1)
    distances = np.maximum(square[:, None] + square - 2 * x @ x.T, 0)
    np.fill_diagonal(distances, 0)
    off = distances[~np.eye(len(x), dtype=bool)]
    middle = np.median(off) if len(off) else 1.0
    return np.exp(-distances / (middle or 1.0))


def choose(like: np.ndarray, prototypes: int, criticisms: int) -> tuple[list[int], list[int]]:
    """Of N rows by how alike they are, [N, N]: those whose distribution is nearest to that of all (the least maximum mean
    discrepancy, greedily), and those at which the two differ most, themselves unlike each other (Kim et al., 2016)."""
    mean, chosen = like.mean(1), list[int]()
    for _ in range(min(prototypes, len(like))):
        size = len(chosen) + 1
        # what the discrepancy would be with one more, less what all have in common
        within = like[np.ix_(chosen, chosen)].sum() + 2 * like[:, chosen].sum(1) + like.diagonal()
        gain = 2 * (mean[chosen].sum() + mean) / size - within / size**2
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    odd = np.abs(mean - like[:, chosen].mean(1)) if chosen else mean
    others = list[int]()
    for _ in range(min(criticisms, len(like) - len(chosen))):
        # one that is like those chosen before says little new
        nearest = like[:, [*chosen, *others]].max(1)
        score = odd * (1 - nearest)
        score[[*chosen, *others]] = -np.inf
        others.append(int(score.argmax()))
    return chosen, others
