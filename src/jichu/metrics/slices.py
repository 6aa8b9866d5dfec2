"""Parts of the rows on which a model is worse than on the others: how they are found, and how far worse it is."""

from __future__ import annotations

import numpy as np

from .base import Array, ratio
from .intervals import Interval, intervals

_TRIED = 1000  # candidates, the worst, among which others are left out that tell of the same rows
_BEYOND = 2.0  # standard errors
_ALIKE = 0.7  # of two slices whose rows are shared to such an extent (Jaccard) the worse one is told


def worst(errors: Array, members: Array, most: int, least: int) -> list[tuple[int, ...]]:
    """Of the candidates [n, C], bool, and of two of them together, up to `most` with `least` rows or more on which errors
    [n] are larger than elsewhere: those first for which chance is the poorest explanation. A pair is told only where it is
    clearly worse than both of its parts."""
    inside = members.astype(np.float64)
    rows, total, spread = len(errors), errors.sum(), errors.var()
    counts, sums = (
        inside.T @ inside,
        inside.T @ (inside * errors[:, None]),
    )  # [C, C], of a candidate on the diagonal
    means = ratio(sums, counts)
    excess = means - ratio(total - sums, rows - counts)
    z = ratio(
        excess,
        np.sqrt(spread * (ratio(np.ones_like(counts), counts) + ratio(np.ones_like(counts), rows - counts))),
    )
    alone = np.diag(means)
    beyond = means - _BEYOND * np.sqrt(spread * ratio(np.ones_like(counts), counts))
    better = (beyond > alone[:, None]) & (beyond > alone)
    fit = np.triu(
        (counts >= least)
        & (rows - counts >= least)
        & (excess > 0)
        & (better | np.eye(len(alone), dtype=bool))
    )
    places = np.argwhere(fit)
    order = np.argsort(-z[tuple(places.T)], kind="stable")
    found: list[tuple[int, ...]] = []
    taken: list[Array] = []
    for i, j in places[order[:_TRIED]].tolist():
        mine = members[:, i] & members[:, j]
        if all((mine & other).sum() < _ALIKE * (mine | other).sum() for other in taken):
            found.append((i,) if i == j else (i, j))
            taken.append(mine)
        if len(found) == most:
            break
    return found


def against_rest(errors: Array, members: Array, *, seed: int = 0) -> list[tuple[Interval, Interval]]:
    """Of each slice [N, C], bool: the mean of errors [D, N] in it, and by how much that is above the mean elsewhere."""
    inside = members.astype(np.float64)

    def values(weights: Array) -> Array:
        rows = (weights @ inside)[:, None]  # [R, 1, C]
        mine = np.stack([weights @ (inside * e[:, None]) for e in errors], 1)  # [R, D, C]
        every = (weights @ errors.T)[..., None]
        mean = ratio(mine, rows)
        return np.concatenate([mean, mean - ratio(every - mine, weights.sum(1)[:, None, None] - rows)], -1)

    found = intervals(values, *errors.shape, seed=seed)
    return list(zip(found[: members.shape[1]], found[members.shape[1] :], strict=True))


def by_chance(errors: Array, members: Array) -> Array:
    """[C]: how probable a mean so much above the rest's is by chance alone (Welch, 1947), of many slices that are looked at
    as Benjamini and Hochberg (1995) correct it: of those told at most q, at most a share q is expected to be by chance."""
    from scipy import stats

    p = []
    for mine in members.T:
        enough = min(mine.sum(), (~mine).sum()) > 1
        varies = enough and errors[mine].var() + errors[~mine].var() > 0
        test = (
            stats.ttest_ind(errors[mine], errors[~mine], equal_var=False, alternative="greater")
            if varies
            else None
        )
        p.append(1.0 if test is None or np.isnan(test.pvalue) else float(test.pvalue))
    return stats.false_discovery_control(p) if p else np.empty(0)
