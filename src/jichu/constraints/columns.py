"""Columns as rules look at them: of rows, of what is answered, and without any values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jichu.data.schema import Kept
from jichu.data.source import Column
from jichu.data.target import Target

Array = np.ndarray
Columns = Mapping[str, Column]
Answers = Mapping[str, Array]  # by target: probabilities [N, K], or numbers [N, Q] in their own units
_NOTHING: dict[str, Array] = {
    "number": np.empty(0), "category": np.empty(0, np.int64), "timestamp": np.empty(0, "datetime64[s]"),
}  # fmt: skip


def cut(columns: Columns, place: Any) -> dict[str, Column]:
    """Some of the values of columns."""
    return {name: Column(c.kind, c.values[place], c.classes) for name, c in columns.items()}


def said(targets: Mapping[str, Target], answers: Answers) -> dict[str, Column]:
    """What is answered, as columns."""
    return {
        t.column: Column("category", answers[key].argmax(1), t.classes) if t.task == "classification"
        else Column("number", answers[key][:, t.point])
        for key, t in targets.items() if key in answers
    }  # fmt: skip


def hollow(column: Column | Kept) -> Column:
    """What kind it is, and its categories, without any values."""
    return Column(column.kind, _NOTHING[column.kind], column.classes)


def recoded(column: Column, classes: tuple[str, ...]) -> Column:
    """A column whose first classes are these."""
    if column.kind != "category" or column.classes[: len(classes)] == classes:
        return column
    every = {name: code for code, name in enumerate(dict.fromkeys((*classes, *column.classes)))}
    to = np.array([*(every[name] for name in column.classes), -1])  # not known is -1, which takes the last
    return Column(column.kind, to[np.maximum(column.values, -1)], tuple(every))
