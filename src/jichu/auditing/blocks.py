"""What a page is made of: a part of an audit gives these, and the template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from jichu.core.progress import number


@dataclass(frozen=True)
class Note:
    """A sentence or two; `loud` where something is wrong."""

    text: str
    loud: bool = False
    kind: str = "note"


@dataclass(frozen=True)
class Table:
    """Rows under heads; a cell is text, a number, or an interval as audits have them."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    kind: str = "table"

    @property
    def aligned(self) -> list[str]:
        """The side of each column: text stands on the left."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.heads)
        return [
            "left" if not i or any(isinstance(v, str) for v in c) else "right" for i, c in enumerate(columns)
        ]


class Records(Table):
    """A table of rows of the data, which no model card gives away."""


@dataclass(frozen=True)
class Figure:
    """SVG; what is `wide` is scrolled sideways where there is little room."""

    svg: str
    wide: bool = False
    kind: str = "figure"


@dataclass(frozen=True)
class Pictures:
    """Pictures (data: addresses), each with what is said of it, loud and low."""

    items: Sequence[tuple[str, str, str]]
    kind: str = "pictures"


@dataclass(frozen=True)
class Written:
    """Beginnings of texts, and how a model goes on."""

    items: Sequence[tuple[str, str]]
    kind: str = "written"


Block = Note | Table | Figure | Pictures | Written


class Look(NamedTuple):
    """How rows can be shown: pictures uint8 [n, C, H, W] of some, what they are called with their classes, and what they say
    in words."""

    pictures: Callable[[Tensor], Tensor] | None = None
    records: Callable[[Tensor], tuple[list[str], list[int]]] | None = None
    words: Callable[[Tensor], list[str]] | None = None


Section = tuple[str, list[Block]]


def cell(value: Any) -> tuple[str, str]:
    """What stands in a cell, and smaller beside it the interval."""
    if isinstance(value, dict):
        return interval(value)
    if value is None:
        return "–", ""
    return (value, "") if isinstance(value, str) else (number(value), "")


def interval(found: dict[str, Any]) -> tuple[str, str]:
    """A figure and its interval, to the place of the second digit of the interval's width."""
    ends = [found[key] for key in ("value", "low", "high")]
    value, low, high = (None if end is None or math.isnan(end) else end for end in ends)
    if value is None:
        return "–", ""
    places = _places(low, high)
    # adding 0.0 takes the sign of what is rounded to nothing
    shown = [
        number(v) if places is None or v is None else f"{round(v, places) + 0.0:,.{places}f}"
        for v in (value, low, high)
    ]
    return shown[0], f"[{shown[1]}, {shown[2]}]"


def _places(low: float | None, high: float | None) -> int | None:
    """Digits behind the point; None where these would be too many, or the width says nothing of it."""
    width = 0.0 if low is None or high is None else high - low
    places = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else None
    return places if places is None or places <= 6 else None
