"""Held-out rows, page by page, with what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import UsageError, unknown
from jichu.data.target import Target

from .examples import Example, examples
from .seen import Seen

Order = Literal["row", "uncertain"]
_MOST, _LIKELY = 1000, 10  # rows of a page, and classes of a row


@dataclass(frozen=True)
class Sample:
    """A row, and by column what is said of it."""

    example: Example
    prediction: dict[str, Any]

    def plain(self, whole: bool = False) -> dict[str, Any]:
        """Ready for JSON; if not `whole` with the scores of the ten likeliest classes or tags alone."""
        said = self.prediction if whole else {column: _brief(one) for column, one in self.prediction.items()}
        return {**self.example.plain(whole), "prediction": said}


def _brief(said: dict[str, Any]) -> dict[str, Any]:
    """What is said of one target, without most of the scores where there are many."""
    if "scores" not in said:
        return said
    likely = sorted(said["scores"].items(), key=lambda one: -one[1])[:_LIKELY]
    return {**said, "scores": dict(likely)}


@dataclass(frozen=True)
class Samples:
    """A page, and how many rows there are of that kind among so many that were looked at."""

    total: int
    of: int
    page: list[Sample]

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"total": self.total, "of": self.of, "samples": [sample.plain() for sample in self.page]}


def sample(seen: Seen, row: int) -> Sample:
    """One row of the data, in whatever split. UsageError where there is no such row."""
    split, rows = seen.split_of(row), torch.tensor([row])
    return Sample(examples(seen.dataset, rows, [split])[0], seen.told(rows)[0])


def samples(
    seen: Seen, *, start: int = 0, count: int = 24, wrong: bool = False, label: str | None = None,
    order: Order = "row", column: str | None = None,
) -> Samples:  # fmt: skip
    """Held-out rows: those whose class is `label`, those that are answered wrongly, in the order of the data or with
    those first of which the model is least sure. With several targets it is about `column`, the first of classes if
    none."""
    if start < 0 or not 1 <= count <= _MOST:
        raise UsageError(f"{count} rows from {start}", expected=f"from 1 to {_MOST:,}, and from 0 on")
    rows = seen.rows("test")
    places = np.arange(len(rows))
    if wrong or label is not None or order != "row":
        key, target = seen.of_classes(column)
        truth = _codes(seen, key, rows)
        if label is not None:
            if label not in target.classes:
                raise unknown(f"class of {target.column}", label, target.classes)
            places = places[truth == target.classes.index(label)]
        if wrong:
            known = truth[places] >= 0
            places = places[known & (_said(seen, target)[places] != truth[places])]
        if order == "uncertain":
            sure = seen.scores("test")[key].max(1)
            places = places[np.argsort(sure[places], kind="stable")]
    page = rows[places[start : start + count]]
    shown = examples(seen.dataset, page, [seen.split_of(int(rows[0]))] * len(page))
    said = seen.told(page)
    return Samples(len(places), len(rows), [Sample(*both) for both in zip(shown, said, strict=True)])


def _codes(seen: Seen, key: str, rows: Tensor) -> np.ndarray:
    if key not in seen.dataset.tensors:
        return np.full(len(rows), -1)
    return seen.dataset.tensors[key][rows].numpy()


def _said(seen: Seen, target: Target) -> np.ndarray:
    """The code of the class that is said of each held-out row, rules kept."""
    told = seen.told(seen.rows("test"), seen.scores("test"))
    return np.array([target.classes.index(row[target.column]["label"]) for row in told])
