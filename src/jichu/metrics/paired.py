"""Whether two models differ on the same rows: exact and rank tests, and what several of them at once are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .base import Array


class Test(NamedTuple):
    """A test's name, the two-sided probability of a difference as large by chance, and the rows that each model was the
    better on."""

    name: str
    p: float
    first: int
    second: int


def mcnemar(one: Array, two: Array) -> Test:
    """Whether two models are right [N] as often, by the rows that only one of them has right: McNemar's test (1947), exact,
    by the binomial distribution."""
    from scipy.stats import binomtest

    first, second = int((one & ~two).sum()), int((two & ~one).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return Test("McNemar, exact", float(p), first, second)


def wilcoxon(one: Array, two: Array) -> Test:
    """Whether the losses [N] of two models lie about as high, by the signed ranks of their differences (Wilcoxon, 1945; rows
    without any are left out)."""
    from scipy.stats import wilcoxon as signed_ranks

    there = ~(np.isnan(one) | np.isnan(two))
    less = one[there] - two[there]
    p = signed_ranks(less).pvalue if less.any() else 1.0
    return Test("Wilcoxon, signed ranks", float(p), int((less < 0).sum()), int((less > 0).sum()))


def holm(p: Sequence[float]) -> list[float]:
    """Probabilities of several tests, so that the chance of one false finding among all is what each says (Holm, 1979)."""
    found = np.array(p, np.float64)
    order = found.argsort(kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    found[order] = np.minimum(stepped, 1)
    return found.tolist()
