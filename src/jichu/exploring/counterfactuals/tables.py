"""Rows of a table, whose columns take values of training rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.auditing.explaining.views.rows import owners
from jichu.core.errors import unknown
from jichu.data.given import Inputs

from ..examples import cells_of
from ..seen import Seen
from .base import Changing
from .search import Asking, Edit, pruned, smallest

_VALUES = 32  # of a column that are tried
_DONORS = 5  # training rows of another class


class Rows(Changing):
    """Places are columns, and an alternative is a training row that a column's value is taken from, so that only
    values that were seen come up, none that is missing. How large a change is, is counted in units of a number's
    range; of a category it is 1."""

    def __init__(
        self, seen: Seen, given: Inputs, key: str, wrong: int, wanted: int | None, immutable: Collection[str]
    ):
        super().__init__(seen, _block(given.tensors).nbytes)
        self.given, self.key, self.before, self.wanted = given, key, wrong, wanted
        table = self.run.config.table
        assert table is not None
        self.table, self.names = table, list(table.kinds)
        for name in immutable:
            if name not in self.names:
                raise unknown("column", name, self.names, where="immutable")
        self.owner = owners(table).numpy()
        rows = seen.rows("train")
        self.donors = _block({n: t[rows] for n, t in seen.dataset.tensors.items() if n in _KEYS})
        self.start = _block(given.tensors)[0]
        self.first = [
            int(np.flatnonzero(self.owner == c)[0]) for c in range(len(self.names))
        ]  # what a column is compared by
        self.free = [c for c, name in enumerate(self.names) if name not in immutable]
        self.costs = np.stack([self._costs(c) for c in range(len(self.names))], 1)  # [N, columns]

    def _costs(self, column: int) -> np.ndarray:
        """How large a change each training row [N] makes; NaN where it has no value."""
        values, own = self.donors[:, self.first[column]], self.start[self.first[column]]
        if self.names[column] in self.table.categories:
            return np.where(values == 0, np.nan, (values != own).astype(float))
        known = values[~np.isnan(values)]
        spread = np.ptp(known) if len(known) else 0.0
        far = np.ones(len(values)) if np.isnan(own) else np.minimum(np.abs(values - own) / (spread or 1.0), 1)
        return np.where(np.isnan(values), np.nan, far)

    def options(self) -> list[tuple[int, int]]:
        return [(c, row) for c in self.free for row in self._values(c)]

    def _values(self, column: int) -> list[int]:
        """Training rows that have different values, evenly spread, and not the row's own."""
        values, costs = self.donors[:, self.first[column]], self.costs[:, column]
        other = np.flatnonzero(costs > 0)
        _, first = np.unique(values[other], return_index=True)
        some = np.unique(np.linspace(0, len(first) - 1, min(len(first), _VALUES)).astype(int))
        return other[first[some]].tolist()

    def candidates(self, ask: Asking) -> Iterator[Edit]:
        """The values of each column that lead furthest; then those of the nearest training rows of which the model says
        something else, as many as it takes (NICE: Brughmans et al., 2021, arXiv 2104.07411)."""
        for edit in super().candidates(ask):
            yield edit
            yield self._closer(ask, edit)
            if len(edit) == 1:
                return
        for donor in self._unlike():
            costs = self.costs[donor]
            options: list[tuple[int, int]] = [(c, donor) for c in self.free if costs[c] > 0]
            if (found := smallest(ask, options, self.cost)) is not None:
                yield found
                yield self._closer(ask, found)

    def _unlike(self) -> list[int]:
        said = self.seen.scores("train")[self.key].argmax(1)
        other = np.flatnonzero(said != self.before if self.wanted is None else said == self.wanted)
        far = np.nan_to_num(self.costs[other][:, self.free], nan=1.0).sum(1)
        return other[np.argsort(far, kind="stable")[:_DONORS]].tolist()

    def _closer(self, ask: Asking, edit: Edit) -> Edit:
        """The same columns with the nearest values that still flip."""
        for column, row in list(edit.items()):
            if self.names[column] in self.table.categories:
                continue
            costs = self.costs[:, column]
            between = np.flatnonzero((costs > 0) & (costs < costs[row]))
            between = between[np.argsort(costs[between], kind="stable")]
            some = np.unique(np.linspace(0, len(between) - 1, min(len(between), _VALUES)).astype(int))
            nearer = [{**edit, column: int(between[i])} for i in some]
            flipped, _ = ask(nearer) if nearer else (np.zeros(0, bool), None)
            if flipped.any():
                edit = nearer[int(flipped.argmax())]
        return pruned(ask, edit)

    def cost(self, edit: Edit) -> float:
        return float(sum(self.costs[row, column] for column, row in edit.items()))

    def _tensors(self, edits: list[Edit]) -> dict[str, Tensor]:
        block = np.repeat(self.start[None], len(edits), 0)
        for row, edit in zip(block, edits, strict=True):
            for column, donor in edit.items():
                mine = self.owner == column
                row[mine] = self.donors[donor, mine]
        count = len(self.table.number_names)
        parts = {
            "numbers": block[:, :count].astype(np.float32),
            "categories": block[:, count:].astype(np.int64),
        }
        return {name: torch.from_numpy(parts[name]) for name in _KEYS if name in self.given.tensors}

    def inputs(self, edits: list[Edit]) -> Inputs:
        tensors = self._tensors(edits)
        columns = {}
        for name in self.run.rules.columns:
            same = self.given.columns[name]
            columns[name] = (
                self.table.decode(name, tensors) if name in self.names
                else type(same)(same.kind, np.repeat(same.values, len(edits)), same.classes)
            )  # fmt: skip
        return Inputs([""] * len(edits), tensors, columns)

    def changes(self, edit: Edit) -> list[dict[str, Any]]:
        before, after = cells_of(self.table, self._tensors([{}, edit]))
        names = [self.names[column] for column in sorted(edit)]
        return [{"column": name, "from": before[name], "to": after[name]} for name in names]

    def changed(self, edit: Edit) -> dict[str, Any]:
        return {"cells": cells_of(self.table, self._tensors([edit]))[0]}


_KEYS = ("numbers", "categories")


def _block(tensors: dict[str, Tensor]) -> np.ndarray:
    """Numbers and codes beside each other, [N, F]."""
    return np.concatenate([tensors[name].double().numpy() for name in _KEYS if name in tensors], 1)
