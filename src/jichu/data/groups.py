"""Rows by what stands in a column, or in several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .source import Column

if TYPE_CHECKING:
    from .dataset import Dataset  # which needs torch

MISSING = "not known"  # the group of rows whose cell is empty
_APART = 10  # a number of at most so many different values is not cut


class Groups(NamedTuple):
    """The group [N] of each row, what the groups are called, and whether they are stretches of numbers or times."""

    codes: np.ndarray
    names: list[str]
    cut: bool = False


def groups(column: Column, bins: int = 4, among: np.ndarray | None = None) -> Groups:
    """A group for each category, or for each number where these are few; else numbers and times are cut into `bins` that
    hold as many of the rows `among` each. Rows without a value are a group of their own."""
    if column.kind == "category":
        return _occurring(
            np.where(column.values < 0, len(column.classes), column.values), [*column.classes, MISSING]
        )
    values = column.values
    missing = np.isnat(values) if column.kind == "timestamp" else np.isnan(values)
    seen = values if among is None else values[among]
    seen = np.sort(seen[~np.isnan(seen)])
    different = np.unique(seen)
    if few := len(different) <= _APART:
        starts = different[1:]
    else:
        starts = np.unique(seen[np.arange(1, bins) * len(seen) // bins])
    codes = np.searchsorted(starts, values, side="right")
    names = [_stretch(values[(codes == i) & ~missing]) for i in range(len(starts) + 1)]
    return _occurring(np.where(missing, len(names), codes), [*names, MISSING])._replace(cut=not few)


def together(dataset: Dataset, names: Sequence[str], among: np.ndarray, bins: int = 4) -> Groups:
    """The groups of rows that are alike in some columns of a data set."""
    return crossed([groups(dataset.column(name), bins, among) for name in names])


def folded(found: Groups, rows: np.ndarray, most: int) -> Groups:
    """The groups of which there are most among some rows; the others are one, the last."""
    counts = np.bincount(found.codes[rows], minlength=len(found.names))
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    if len(kept) == len(found.names):
        return found
    to = np.full(len(found.names), len(kept))
    to[kept] = np.arange(len(kept))
    others = f"{len(found.names) - len(kept)} others"
    return found._replace(codes=to[found.codes], names=[*(found.names[k] for k in kept), others])


def crossed(parts: Sequence[Groups]) -> Groups:
    """The groups of rows that are alike in all of several groupings, of those that occur."""
    places, inside = np.unique(np.stack([p.codes for p in parts], 1), axis=0, return_inverse=True)
    names = [" × ".join(part.names[i] for part, i in zip(parts, place, strict=True)) for place in places]
    return Groups(inside.reshape(-1), names, any(part.cut for part in parts))


def _occurring(codes: np.ndarray, names: Sequence[str]) -> Groups:
    found, inside = np.unique(codes, return_inverse=True)
    return Groups(inside, [names[code] for code in found])


def _stretch(values: np.ndarray) -> str:
    """From the least to the largest."""
    if not len(values):
        return ""
    low, high = (_written(value) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _written(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return str(value).replace("T", " ").removesuffix(" 00:00:00")
    return f"{value:g}"
