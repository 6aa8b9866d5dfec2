"""What somebody gives a model to look at, as arrays: images and sounds, rows of a table, texts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jichu.core.errors import DataError, UsageError

from .columns import columns_of
from .config import IN_MEMORY, ColumnConfig, DataConfig
from .decode import FORMATS
from .formats import jsonl
from .media import KINDS, How
from .readers import read
from .schema import TableSchema, understand
from .source import HALF, Column, Source
from .special import TextInputs


class Inputs(NamedTuple):
    """What inputs are called, their tensors by what the model reads, and of rows of a table their columns too."""

    names: list[str]
    tensors: dict[str, Any]
    columns: Mapping[str, Column] = {}


def media(items: Any, how: How) -> tuple[list[str], np.ndarray]:
    """Images or sounds as a model wants them: one, a list, or a stack of images. DataError for what cannot be decoded."""
    stacked = isinstance(items, np.ndarray) and (
        items.ndim == 4 or (items.ndim == 3 and items.shape[2] not in (1, 3, 4))
    )
    several = isinstance(items, list) or (isinstance(items, tuple) and how.kind == "image")
    given: Sequence[Any] = items if stacked or several else [items]  # (samples, rate) is one sound
    medium = KINDS[how.kind]
    what, expected = {
        "image": ("an image", f"a file of {', '.join(FORMATS)}"),
        "audio": ("a sound", "a file libsndfile opens, or (samples, rate)"),
    }[how.kind]
    names, arrays = [], []
    for i, item in enumerate(given):
        name = str(item) if isinstance(item, (str, Path)) else f"input {i}"
        try:
            arrays.append(medium.decode(item, how))
        except medium.unreadable as error:
            raise DataError(f"not {what}: {error}", where=name, expected=expected) from None
        names.append(name)
    if not arrays:
        raise UsageError("nothing to predict", expected=f"at least {what}")
    return names, np.stack(arrays)


def rows(items: Any, table: TableSchema, config: DataConfig, also: Mapping[str, Column]) -> Inputs:
    """Rows of a table: a dict, a list of dicts, a data frame or a table file; columns that are not read by the model but
    `also` asked for, by rules, are of the kind they had in training. DataError where a column is missing."""
    source = source_of(items, config)
    known = {n: c for n, c in config.columns.items() if n in source.columns}
    for name, column in also.items():
        if name in source.columns:
            known[name] = known.get(name, ColumnConfig()).model_copy(update={"type": column.kind})
    columns = columns_of(source, config.model_copy(update={"columns": known}), table)
    return Inputs(list(source.names), table.encode(columns), columns)


def source_of(items: Any, config: DataConfig) -> Source:
    """Rows as `rows` takes them, as columns whose types are not yet known. UsageError for keys that name no column."""
    given = [items] if isinstance(items, dict) else items
    if isinstance(given, (list, tuple)) and all(isinstance(r, dict) for r in given):
        if not given:
            raise UsageError("nothing to predict", expected="at least one row")
        if odd := [n for r in given for n in r if not isinstance(n, str) or HALF.search(n)]:
            raise UsageError(f"the key {odd[0]!r} of a row names no column", expected="texts as keys")
        columns = {
            n: jsonl.column([r.get(n) for r in given]) for n in dict.fromkeys(n for r in given for n in r)
        }
        given = pa.table(columns)
    return read(given, config.reader if isinstance(given, (str, Path)) else None)


def texts(items: Any, inputs: TextInputs, config: DataConfig) -> tuple[list[str], list[list[str]]]:
    """Texts (one or a list; of a pair tuples), or those in a file, a folder or a table, by column."""
    if isinstance(items, str) and not os.path.exists(items):
        items = [items]
    if isinstance(items, (list, tuple)) and all(isinstance(i, (str, tuple)) for i in items):
        if not items:
            raise UsageError("nothing to predict", expected="at least one text")
        rows = [(item,) if isinstance(item, str) else item for item in items]
        if odd := next((row for row in rows if len(row) != 1 + inputs.pair), None):
            raise UsageError(f"{len(odd)} texts in a row", expected=f"{1 + inputs.pair}, as in training")
        names = [row[0] for row in rows]
        columns = [list(column) for column in zip(*rows, strict=True)]
    else:
        source = read(items, config.reader if isinstance(items, (str, Path)) else None)
        alike = DataConfig(path=IN_MEMORY, text=_those_of_texts(source, inputs))
        found = columns_of(source, alike)
        schema = understand(found, alike)
        if len(schema.texts) != 1 + inputs.pair:
            told = ", ".join(f"{n} ({c.kind})" for n, c in found.items())
            expected = " and ".join(map(repr, inputs.columns)) or f"{1 + inputs.pair} of texts"
            raise DataError(f"no texts among the columns {told}", expected=expected)
        names = list(source.names)
        columns = [[t or "" for t in found[n].values.to_pylist()] for n in schema.texts]
    return names, columns


def _those_of_texts(source: Source, inputs: TextInputs) -> list[str] | None:
    """The columns that a model is to read: called as in training, else what the source is about, else all where
    there are no others; None where that is to be found out."""
    if inputs.columns and source.columns.keys() >= set(inputs.columns):
        return list(inputs.columns)
    whole = list(source.columns) if len(source.columns) == 1 + inputs.pair else None
    return list(source.texts) or whole
