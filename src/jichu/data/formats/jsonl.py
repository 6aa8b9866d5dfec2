"""JSON lines: an object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from jichu.core.errors import DataError

from ..source import unusable
from .delimited import contents, decode

SUFFIXES = (".jsonl", ".ndjson")


def read(path: Path, encoding: str | None = None) -> tuple[pa.Table, list[int], list[dict[str, Any]]]:
    """A column a key, of a type of Arrow's where all its values are of one, else as text; the numbers of
    the lines (from 1); and the lines that are no objects."""
    rows, numbers, faults = [], [], []
    # not splitlines: it would also cut at characters that JSON allows within a text
    for number, line in enumerate(decode(contents(path), path, encoding).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__} and no object")
            if "\\u" in line:  # may write half of a surrogate pair, which is no text
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            faults.append(unusable(f"{path.name}:{number}", str(error)))
            continue
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise DataError(
            "no line of it is a JSON object", where=faults[0]["record"] if faults else path,
            expected='lines such as {"age": 39, "label": "yes"}',
        )  # fmt: skip
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: column([row.get(name) for row in rows]) for name in names}), numbers, faults


def column(values: list[Any]) -> pa.Array:
    """Of one of Arrow's types where all values are of one, else text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        texts = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
        return pa.array([t and t.encode("utf-8", "replace").decode() for t in texts])
