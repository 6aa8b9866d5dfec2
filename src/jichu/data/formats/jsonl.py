"""JSON lines, an object a line; and JSON that is a list of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jichu.core.errors import DataError

from ..large_tables import LARGE, gathered
from ..source import unusable
from . import plain

SUFFIXES = (".jsonl", ".ndjson")
_TOGETHER = 2**24  # bytes of lines made into a table together
_PACKED = 4  # so many times as large is a .gz, about, once it is unpacked
_LONGEST = 2**28  # bytes of one line


def read(path: Path, encoding: str | None = None) -> tuple[pa.Table, np.ndarray, list[dict[str, Any]]]:
    """A column a key, of a type of Arrow's where all its values are of one, else as text; the numbers of
    the lines (from 1); and the lines that are no objects. What is large is kept on disk."""
    encoding = encoding or plain.encoding_of(path)
    faults: list[dict[str, Any]] = []
    numbers: list[np.ndarray] = []
    tables: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    mine: list[int] = []
    number = size = 0
    large = path.stat().st_size * (_PACKED if path.suffix == ".gz" else 1) > LARGE

    def finish() -> None:
        tables.append(_table(rows, spill=large))
        numbers.append(np.array(mine, np.int64))
        rows.clear()
        mine.clear()

    # lines end with \n only: JSON allows what else may be taken for an end within a text
    for lines in plain.cut(plain.blocks(path, encoding), "line", _LONGEST):
        for line in lines:
            number += 1
            if not line or line.isspace():
                continue
            try:
                rows.append(_object(line))
                mine.append(number)
            except (ValueError, RecursionError) as error:
                faults.append(unusable(f"{path.name}:{number}", str(error)))
            size += len(line)
        if size >= _TOGETHER and rows:
            finish()
            size = 0
    if rows:
        finish()
    if not tables:
        raise DataError(
            "no line of it is a JSON object", where=faults[0]["record"] if faults else path,
            expected='lines such as {"age": 39, "label": "yes"}',
        )  # fmt: skip
    table = together(tables).replace_schema_metadata({"encoding": encoding})
    return table, np.concatenate(numbers), faults


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST:
        raise ValueError("longer than 256 MiB")
    if told := plain.damage(line):
        raise ValueError(told)
    row = json.loads(line.decode())
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__} and no object")
    if b"\\u" in line:  # may write half of a surrogate pair, which is no text
        json.dumps(row, ensure_ascii=False).encode()
    return row


def _table(rows: list[dict[str, Any]], spill: bool) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: column([row.get(name) for row in rows]) for name in names})
    return gathered(table.schema, table.to_batches(), LARGE) if spill else table


def together(tables: list[pa.Table]) -> pa.Table:
    """One below the other; a column that is of types that do not go together becomes text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        pass
    for name in dict.fromkeys(n for t in tables for n in t.column_names):
        parts = [t.select([name]) for t in tables if name in t.column_names]
        try:
            pa.concat_tables(parts, promote_options="permissive")
        except pa.ArrowException:
            tables = [_as_text(t, name) for t in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _as_text(table: pa.Table, name: str) -> pa.Table:
    if name not in table.column_names:
        return table
    cells = pa.array(_texts(table[name].to_pylist()), pa.large_string())
    return table.set_column(table.column_names.index(name), name, cells)


def column(values: list[Any]) -> pa.Array:
    """Of one of Arrow's types where all values are of one, else text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.array(_texts(values))


def _texts(values: list[Any]) -> list[str | None]:
    texts = [
        v if v is None or isinstance(v, str) else json.dumps(v, default=str, ensure_ascii=False)
        for v in values
    ]
    return [t and t.encode("utf-8", "replace").decode() for t in texts]
