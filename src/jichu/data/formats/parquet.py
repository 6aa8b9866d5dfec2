"""Parquet, with the class names that Hugging Face `datasets` writes into its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from jichu.core.errors import DataError

from ..large_tables import gathered

_ROWS, _BUFFER = 2**14, 2**20  # rows and bytes read together
SUFFIXES = (".parquet", ".pq")


def read(path: Path) -> tuple[pa.Table, int, list[dict[str, Any]]]:
    """The table, and how many rows it has."""
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            table = gathered(file.schema_arrow, file.iter_batches(_ROWS), size)
        table.validate(full=True)  # what should be text may be none, which later steps rely on
        _ = table.column_names  # raises where they are no text
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"not readable as Parquet: {told}", where=path) from None
    return table, len(table), []


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """{column: names of its codes, or of those in its lists} from the metadata that `datasets` writes."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {})
        inner = {n: f.get("feature") or f for n, f in features.items() if isinstance(f, dict)}
        names = {n: f.get("names") for n, f in inner.items() if isinstance(f, dict)}
        return {
            n: found for n, found in names.items()
            if found and isinstance(found, list) and all(isinstance(name, str) for name in found) and len(set(found)) == len(found)
        }  # fmt: skip
    except (ValueError, AttributeError, RecursionError):  # somebody else's metadata under that name
        return {}
