"""JSON that is a list of objects, or an object that holds one (`{"data": [{…}, …]}`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jichu.core.errors import DataError

from ..source import unusable
from .delimited import contents, decode, encoding_of
from .jsonl import column

SUFFIXES = (".json",)


def read(path: Path, encoding: str | None = None) -> tuple[pa.Table, np.ndarray, list[dict[str, Any]]]:
    """As of JSON lines, the objects numbered from 1."""
    raw = contents(path)
    encoding = encoding or encoding_of(raw, path)
    try:
        found: Any = json.loads(decode(raw, path, encoding))
        if isinstance(found, dict):
            found = next(
                (v for v in found.values() if isinstance(v, list) and v and isinstance(v[0], dict)), found
            )
        if not isinstance(found, list):
            raise ValueError(f"a {type(found).__name__} where a list should be")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"no list of JSON objects: {error}", where=path, expected='[{"text": "…"}, …]'
        ) from None
    kept, faults = [], []
    for number, row in enumerate(found, 1):
        try:
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__} and no object")
            json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            kept.append(number)
        except (ValueError, RecursionError) as error:
            faults.append(unusable(f"{path.name}:{number}", str(error)))
    if not kept:
        raise DataError("no JSON object is in it", where=path, expected='[{"text": "…"}, …]')
    rows = [found[number - 1] for number in kept]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: column([row.get(name) for row in rows]) for name in names})
    return table.replace_schema_metadata({"encoding": encoding}), np.array(kept), faults
