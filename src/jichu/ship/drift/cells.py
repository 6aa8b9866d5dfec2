"""Two columns by the cells into which their values fall, which are fixed before they are counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jichu.data.schema import MOST_CATEGORIES
from jichu.data.source import Column

_FINE, _COARSE = 128, 10  # cells of numbers: for the test, and for the index
_DRAWN, _BARS = 24, 12  # of a figure, of numbers and of categories
_NEW = 5  # new categories that are named


@dataclass
class Cells:
    """Of every row its cell of K, -1 where there is no value; `reference` and `logs` are [N] and [M]."""

    kind: str
    count: int
    reference: np.ndarray
    logs: np.ndarray
    names: list[str | None] = field(default_factory=list)  # of categories; None of all new ones
    new: dict[str, int] = field(default_factory=dict)  # categories that the reference does not have

    def counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """[2, K], of all logs or of some."""
        logs = self.logs if rows is None else self.logs[rows]
        return np.stack([np.bincount(c[c >= 0], minlength=self.count) for c in (self.reference, logs)])

    def missing(self) -> np.ndarray:
        """[2, 2]: of reference and logs how many have a value, and how many none."""
        return np.array([[(c >= 0).sum(), (c < 0).sum()] for c in (self.reference, self.logs)])


def of(reference: Column, logs: Column) -> Cells:
    """The cells of the test: of numbers quantiles of all rows together, so that none knows which rows are whose."""
    if reference.kind == "category":
        return _of_categories(reference, logs)
    return _between(reference.values, logs.values, np.concatenate([reference.values, logs.values]), _FINE)


def of_index(reference: Column, logs: Column, test: Cells) -> Cells:
    """The cells of the stability index: tenths of the reference, whatever the logs hold."""
    if reference.kind == "category":
        return test
    return _between(reference.values, logs.values, reference.values, _COARSE)


def _between(one: np.ndarray, two: np.ndarray, by: np.ndarray, count: int) -> Cells:
    known = by[~np.isnan(by)]
    edges = (
        np.unique(np.quantile(known, np.arange(1, count) / count, method="nearest"))
        if len(known)
        else np.empty(0)
    )
    reference, logs = (np.where(np.isnan(v), -1, np.searchsorted(edges, v, side="left")) for v in (one, two))
    return Cells("number", len(edges) + 1, reference, logs)


def _of_categories(one: Column, two: Column) -> Cells:
    """The reference's categories that occur in either, and one cell for all that it does not have; where there are too
    many for a model to know all, those count as missing."""
    place = {name: i for i, name in enumerate(one.classes)}
    beyond = -1 if len(place) >= MOST_CATEGORIES else len(place)
    to = np.array([place.get(name, beyond) for name in two.classes] + [-1])
    codes = to[two.values]
    new = Counter(two.classes[code] for code in two.values[codes == len(place)].tolist())
    names = [*one.classes, None]
    counts = np.bincount(
        np.concatenate([c[c >= 0] for c in (one.values, codes)]).astype(int), minlength=len(names)
    )
    there = np.flatnonzero(counts)
    again = np.full(len(names) + 1, -1)
    again[there] = np.arange(len(there))
    return Cells(
        "category", max(1, len(there)), again[one.values], again[codes], [names[i] for i in there],
        dict(new.most_common(_NEW)),
    )  # fmt: skip


def drawn(reference: Column, logs: Column, cells: Cells) -> dict[str, Any]:
    """Shares of both for a figure: of numbers between edges, the outermost hundredths left out; of the categories that are
    the most."""
    if reference.kind == "category":
        shares = cells.counts() / np.maximum(cells.counts().sum(1, keepdims=True), 1)
        order = np.argsort(-shares.max(0), kind="stable")[:_BARS]
        return {
            "names": [cells.names[i] for i in order if i < len(cells.names)],
            "reference": shares[0, order].tolist(), "logs": shares[1, order].tolist(),
        }  # fmt: skip
    sides = [c.values[~np.isnan(c.values)] for c in (reference, logs)]
    both = np.concatenate(sides)
    if not len(both):
        return {}
    low, high = np.quantile(both, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, _DRAWN + 1)
    shares = [np.histogram(v, edges)[0] / max(1, len(v)) for v in sides]
    return {"edges": edges.tolist(), "reference": shares[0].tolist(), "logs": shares[1].tolist()}
