"""Thresholds by group, so that groups fare alike (Hardt, Price and Srebro, 2016, arXiv 1610.02413).

What a goal asks to be equal is a point on a curve of each group: of how many are selected, or of how many of those who
should be, against how many decisions are right; of equalised odds the ROC curve. Between two points of a curve two
thresholds are drawn from at random, so that only its upper hull matters; the point all groups share is the one with the
most decisions right.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from .base import Array

Goal = Literal["demographic_parity", "equal_opportunity", "equalised_odds"]
_GRID = 1001  # points that are tried beside the corners of the hulls, where the best one may lie between


class Policy(NamedTuple):
    """Of each group [G] two thresholds, how often the first of them decides, and how often neither does but a coin, which
    selects with probability `rate`."""

    first: Array
    second: Array
    mix: Array
    coin: Array
    rate: float

    def chosen(self, odds: Array, codes: Array) -> Array:
        """The probability [n] with which each row is selected, from that of being favourable and its group."""
        by_score = np.where(odds[:, None] >= np.stack([self.first[codes], self.second[codes]], 1), 1.0, 0.0)
        mix, coin = self.mix[codes], self.coin[codes]
        return coin * self.rate + (1 - coin) * (mix * by_score[:, 0] + (1 - mix) * by_score[:, 1])


class _Curve(NamedTuple):
    """The corners of an upper hull, x rising from 0 to 1, and the threshold of each."""

    x: Array
    y: Array
    thresholds: Array


def thresholds(goal: Goal, due: Array, odds: Array, codes: Array, count: int, least: int = 1) -> Policy:
    """The policy for `count` groups, from rows of which it is known whether they are due [n], with which probability they
    are favourable, and their groups. A group of fewer than `least` rows of either kind has the threshold 1/2."""
    kinds = np.stack([np.bincount(codes[due == kind], minlength=count) for kind in (0, 1)], 1)
    known = np.flatnonzero((kinds >= max(1, least)).all(1))
    policy = Policy(np.full(count, 0.5), np.full(count, 0.5), np.ones(count), np.zeros(count), 0.0)
    if not len(known):
        return policy
    curves = [_curve(goal, due[codes == g], odds[codes == g]) for g in known]
    tried = np.unique(np.concatenate([np.linspace(0, 1, _GRID), *(curve.x for curve in curves)]))
    heights = np.stack([np.interp(tried, curve.x, curve.y) for curve in curves])
    rows = kinds[known]
    if goal == "equalised_odds":  # all groups can be brought down to the lowest
        no, yes = rows.sum(0)
        right = no * (1 - tried) + yes * heights.min(0)
    else:
        right = rows.sum(1) @ heights
    best = int(right.argmax())
    at = float(tried[best])
    for group, curve, height in zip(known, curves, heights[:, best], strict=True):
        policy.first[group], policy.second[group], policy.mix[group] = _between(curve, at)
        if (
            goal == "equalised_odds" and height > at
        ):  # the coin has as many right of either kind: the diagonal
            policy.coin[group] = (height - heights[:, best].min()) / (height - at)
    return policy._replace(rate=at)


def _curve(goal: Goal, due: Array, odds: Array) -> _Curve:
    order = np.argsort(-odds, kind="stable")
    last = np.flatnonzero(np.diff(odds[order], append=-1))  # of rows of the same probability
    selected, hits = np.r_[0, last + 1], np.r_[0, due[order].cumsum()[last]]
    yes, rows = due.sum(), len(due)
    misses = selected - hits
    right = (hits + (rows - yes) - misses) / rows
    x, y = {
        "demographic_parity": (selected / rows, right),
        "equal_opportunity": (hits / yes, right),
        "equalised_odds": (misses / (rows - yes), hits / yes),
    }[goal]
    corners = _hull(x, y)
    return _Curve(x[corners], y[corners], np.r_[np.inf, odds[order][last]][corners])


def _hull(x: Array, y: Array) -> list[int]:
    """Which points are corners of the upper hull, x rising (Andrew, 1979)."""
    found: list[int] = []
    for i in np.lexsort((-y, x)).tolist():
        if found and x[i] == x[found[-1]]:
            continue  # below the one before
        while len(found) > 1:
            a, b = found[-2:]
            if (x[b] - x[a]) * (y[i] - y[a]) < (y[b] - y[a]) * (x[i] - x[a]):
                break
            found.pop()
        found.append(i)
    return found


def _between(curve: _Curve, at: float) -> tuple[float, float, float]:
    """The thresholds around a place of a curve, and how often the first is taken."""
    right = int(np.clip(np.searchsorted(curve.x, at), 1, len(curve.x) - 1))
    low, high = curve.x[right - 1], curve.x[right]
    return curve.thresholds[right - 1], curve.thresholds[right], (high - at) / (high - low)
