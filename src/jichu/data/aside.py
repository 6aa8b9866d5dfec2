"""Columns that no model sees, as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from .schema import Kept
from .source import Column


def keyed(columns: Iterable[Kept]) -> list[tuple[str, Kept]]:
    """The columns by the names they are stored under, which no tensor of a data set has."""
    return [(f"(aside {i})", kept) for i, kept in enumerate(columns)]


def encode(column: Column) -> np.ndarray:
    """float64 or int64 [N]; times as seconds."""
    return column.values.view(np.int64) if column.kind == "timestamp" else column.values


def decode(tensor: Tensor, kept: Kept) -> Column:
    """The column as it was before it was stored."""
    values: Any = tensor.numpy()
    return Column(
        kept.kind, values.view("datetime64[s]") if kept.kind == "timestamp" else values, kept.classes
    )
