"""Rows that are meant by words: `age >= 60 and sex == Male`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jichu.core.errors import UsageError, shown, unknown

from .groups import MISSING
from .source import Column

_PART = re.compile(r"\s*(.+?)\s*(==|!=|>=|<=|=|>|<)\s*(.+?)\s*")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "=": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le,
    ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def holds(text: str, columns: Mapping[str, Column], where: str) -> np.ndarray:
    """Whether each row [n] is meant; an unknown number or time is so by `!=` alone. UsageError where the words name no
    such column or category, or cannot be read."""
    found = np.array(True)
    for part in text.split(" and "):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(
                f"{shown(part)} is no condition",
                where=where,
                expected="such as age >= 60, or sex == Male and race != White",
            )
        name, sign, value = (piece.strip("'\"") for piece in match.groups())
        if name not in columns:
            raise unknown("column", name, columns, where=where)
        found = found & _part(columns[name], name, sign, value, where)
    return found


def _part(column: Column, name: str, sign: str, value: str, where: str) -> np.ndarray:
    if column.kind != "category":
        return _COMPARE[sign](column.values, _as_cell(column, name, value, where))
    if sign not in ("==", "=", "!="):
        raise UsageError(
            f"the categories of {name!r} have no order", where=where, expected=f"{name} == or !="
        )
    if value not in (*column.classes, MISSING):
        raise unknown(f"category of {name}", value, [*column.classes, MISSING], where=where)
    code = column.classes.index(value) if value in column.classes else -1
    return _COMPARE[sign](np.maximum(column.values, -1), code)


def _as_cell(column: Column, name: str, value: str, where: str) -> Any:
    try:
        return np.datetime64(value) if column.kind == "timestamp" else float(value)
    except ValueError:
        expected = "a time such as 2030-12-31" if column.kind == "timestamp" else "a number"
        raise UsageError(
            f"{name!r} is compared with {shown(value)}", where=where, expected=expected
        ) from None
