"""The rows of a table, by column."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from jichu.data.schema import TableSchema
from jichu.models.inputs import Numbers

from .base import Asked, View
from .lookups import lookups, recorded, replaced

_KEYS = ("numbers", "categories")
_AT_ONCE = 4096  # rows of a forward pass


class Rows(View):
    """Numbers in units of the distance of their quartiles, categories as the vectors that the model looks up, and places
    are the columns of the table: the parts of a time are one.

    What is not there is as in each of the `background` rows in turn (Štrumbelj and Kononenko, 2014), and the answer the mean
    over them; as points nothing is the median number, and the mean vector. A number that is missing is missing in the
    baseline too.
    """

    kind = "table"
    at_once = _AT_ONCE

    def __init__(
        self, asked: Asked, batch: dict[str, Tensor], table: TableSchema, background: dict[str, Tensor]
    ):
        super().__init__(asked, {key: batch[key] for key in _KEYS if key in batch})
        self.background = {key: background[key] for key in self.batch}
        self.copies = len(next(iter(background.values())))
        self.owner = owners(table)
        self.shape = (len(table.kinds),)
        self.lookups = lookups(asked.model)
        self.points, self.baselines = self._points()

    def _points(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        points, nothing = self._vectors(self.batch), self._vectors(self.background)
        baselines = [b.mean(0, keepdim=True).expand_as(p) for p, b in zip(points, nothing, strict=True)]
        if "numbers" in self.batch:
            numbers, usual = self.batch["numbers"], self.background["numbers"].nanmedian(0).values
            points = [self._scaled(numbers).nan_to_num(0.0), *points]
            middle = self._scaled(usual).nan_to_num(0.0).expand_as(numbers)
            baselines = [torch.where(numbers.isnan(), 0.0, middle), *baselines]
        if "categories" in self.batch and not self.lookups:  # of codes themselves there is no gradient
            return (), ()
        return tuple(points), tuple(baselines)

    def _vectors(self, batch: dict[str, Tensor]) -> list[Tensor]:
        with recorded(self.lookups) as found, torch.no_grad():
            self.run(batch)
        return found

    def _scaled(self, numbers: Tensor) -> Tensor:
        ready = cast(Numbers, self.asked.model.inputs["numbers"])
        return (numbers - ready.centre) / ready.spread

    def at(self, points: list[Tensor], rows: Tensor) -> Tensor:
        batch, vectors = {key: values[rows] for key, values in self.batch.items()}, list(points)
        if "numbers" in batch:
            ready = cast(Numbers, self.asked.model.inputs["numbers"])
            numbers = vectors.pop(0) * ready.spread + ready.centre
            batch["numbers"] = torch.where(batch["numbers"].isnan(), torch.nan, numbers)
        with replaced(self.lookups, vectors):
            return self.run(batch)

    def partly(self, present: Tensor, rows: Tensor) -> Tensor:
        there = present[:, self.owner].repeat_interleave(self.copies, 0)
        first = self.batch["numbers"].shape[1] if "numbers" in self.batch else 0
        mine = {"numbers": there[:, :first], "categories": there[:, first:]}
        return self.run({
            key: torch.where(
                mine[key], values[rows].repeat_interleave(self.copies, 0), self.background[key].repeat(len(rows), 1)
            )
            for key, values in self.batch.items()
        })  # fmt: skip

    def places(self, found: tuple[Tensor, ...]) -> Tensor:
        parts = list(found)
        columns = [parts.pop(0)] if "numbers" in self.batch else []
        columns += [part.sum(-1).view(len(self), -1) for part in parts]
        whole = torch.cat(columns, 1)
        return whole.new_zeros(len(self), *self.shape).index_add(1, self.owner, whole)

    def window(self) -> tuple[int, ...]:
        return (1,)


def owners(table: TableSchema) -> Tensor:
    """Which column each of the tensors' columns, numbers and then categories, is of."""
    names = list(table.kinds)
    parts = [name if name in table.numbers else name.rpartition(":")[0] for name in table.number_names]
    return torch.tensor([names.index(name) for name in (*parts, *table.categories)])
