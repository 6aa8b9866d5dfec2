"""What a page is made of: a part of an audit gives these, and the template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jichu.core.progress import number


@dataclass(frozen=True)
class Note:
    """A sentence or two."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Table:
    """Rows under heads; a cell is text, a number, or an interval as audits have them."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    kind: str = "table"


class Records(Table):
    """A table of rows of the data, which no model card gives away."""


@dataclass(frozen=True)
class Figure:
    """SVG."""

    svg: str
    kind: str = "figure"


@dataclass(frozen=True)
class Pictures:
    """Pictures (data: addresses), each with what is said of it, loud and low."""

    items: Sequence[tuple[str, str, str]]
    kind: str = "pictures"


Block = Note | Table | Figure | Pictures


def cell(value: Any) -> tuple[str, str]:
    """What stands in a cell, and smaller beside it the interval."""
    if isinstance(value, dict) and (value["value"] is None or math.isnan(value["value"])):
        return "–", ""
    if isinstance(value, dict):
        return number(value["value"]), f"[{number(value['low'])}, {number(value['high'])}]"
    if value is None:
        return "–", ""
    return (value, "") if isinstance(value, str) else (number(value), "")
