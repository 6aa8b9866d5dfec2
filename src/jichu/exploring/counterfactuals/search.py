"""The fewest changes of an input that change what a model says of it.

An input has places (columns, words, parts of a picture), and a place has alternatives. An edit says which places are
changed, and to which of their alternatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Edit = dict[int, int]  # {place: alternative}
_PREFIXES = 16  # that are asked about together


class Spent(Exception):
    """More would have been asked than may be."""


class Asking:
    """Asks a model about edits, `most` of them at most. `scores` gives of edits [n] the probabilities [n, K] of the
    classes, and which may be taken [n]. An edit flips where the answer is `wanted`, or, where that is None, no longer
    `before`."""

    def __init__(
        self, scores: Callable[[list[Edit]], tuple[np.ndarray, np.ndarray]], before: int, wanted: int | None, most: int
    ):  # fmt: skip
        self._scores, self.before, self.wanted, self.most, self.asked = scores, before, wanted, most, 0

    def __call__(self, edits: list[Edit]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each edit flips, and by how much it leads there: the probability that is wanted less the largest
        other one. Spent where they are too many."""
        if self.asked + len(edits) > self.most:
            raise Spent
        self.asked += len(edits)
        scores, allowed = self._scores(edits)
        codes, about = scores.argmax(1), self.before if self.wanted is None else self.wanted
        gain = scores[:, about] - np.delete(scores, about, 1).max(1)
        gain, flipped = (-gain, codes != about) if self.wanted is None else (gain, codes == about)
        return flipped & allowed, np.where(allowed, gain, -np.inf)


def smallest(
    ask: Asking, options: Sequence[tuple[int, int]], cost: Callable[[Edit], float] = len
) -> Edit | None:
    """An edit that flips and of which nothing can be taken back, or None, out of single changes.

    The smallest that flips alone, by its cost and then by how far it leads; else those that lead furthest one after
    the other, one for each place, until they flip together, and then as few of them as still do (SEDC: Martens and
    Provost, 2014, MIS Quarterly 38)."""
    if not options:
        return None
    singles: list[Edit] = [{place: other} for place, other in options]
    flipped, gain = ask(singles)
    if flipped.any():
        return singles[min(np.flatnonzero(flipped), key=lambda i: (cost(singles[i]), -gain[i]))]
    best: Edit = {}
    for i in np.argsort(-gain, kind="stable"):
        if np.isfinite(gain[i]):
            best.setdefault(*options[i])
    chosen = list(best.items())
    for start in range(2, len(chosen) + 1, _PREFIXES):
        several = [dict(chosen[:n]) for n in range(start, min(start + _PREFIXES, len(chosen) + 1))]
        flipped, _ = ask(several)
        if flipped.any():
            return pruned(ask, several[int(flipped.argmax())])
    return None


def pruned(ask: Asking, edit: Edit) -> Edit:
    """What is left of an edit that flips when one change after the other is taken back that is not needed."""
    while len(edit) > 1:
        fewer = [{place: other for place, other in edit.items() if place != left} for left in edit]
        flipped, gain = ask(fewer)
        if not flipped.any():
            return edit
        edit = fewer[int(np.where(flipped, gain, -np.inf).argmax())]
    return edit
