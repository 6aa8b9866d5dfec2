"""Parquet with images in the Hugging Face layout: `image` struct{bytes, path}, `label` codes or names.

One file, or a folder of `train*.parquet`, `validation*.parquet`, `test*.parquet`; class names come
from the schema's own metadata or from `labels.txt` beside the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from jichu.core.errors import DataError, nearest
from jichu.core.files import fingerprint

from ..source import SPLITS, Column, Source, label_column


def recognises(data: Any) -> bool:
    """A .parquet file, or a folder that holds some."""
    return isinstance(data, Path) and bool(_files(data))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    return [path] if path.suffix == ".parquet" else []


class _Cells(Sequence[Any]):
    """Encoded images, taken out of Arrow one at a time."""

    def __init__(self, tables: list[pyarrow.ChunkedArray]):
        self._cells = pyarrow.chunked_array([c for t in tables for c in t.chunks])

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, i: Any) -> Any:
        return self._cells[i].as_py()


def read(path: Path, image: str = "image", label: str = "label") -> Source:
    """Columns `image` and, where the file has one, `label`; `image` and `label` are the columns' names there."""
    path = Path(path)
    cells: list[pyarrow.ChunkedArray] = []
    labels: list[Any] = []
    splits, names, stats = [], [], []
    classes: list[str] | None = None
    for file in _files(path):
        table = _table(file, image, label)
        classes = classes or _classes(table.schema, label)
        column = table[image]
        cells.append(pyarrow.compute.struct_field(column, "bytes") if _is_struct(column) else column)
        labels += table[label].to_pylist() if label in table.column_names else [None] * len(table)
        split = SPLITS.get(re.split(r"[-_.]", file.name)[0].lower(), "")
        splits += [split] * len(table)
        names += [f"{file.name}:{i}" for i in range(len(table))]
        stats.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    if classes is None and (path / "labels.txt").exists():
        classes = (path / "labels.txt").read_text(encoding="utf-8").split("\n")
        classes = [c.strip() for c in classes if c.strip()]
    columns = {"image": Column("image", _Cells(cells))}
    if any(value is not None for value in labels):
        columns["label"] = label_column(labels, classes)
    key = fingerprint(str(path.resolve()), stats, image, label, classes)
    return Source(columns, names, splits if any(splits) else None, [], key)


def _is_struct(column: pyarrow.ChunkedArray) -> bool:
    return pyarrow.types.is_struct(column.type)


def _table(file: Path, image: str, label: str) -> pyarrow.Table:
    try:
        schema = pyarrow.parquet.read_schema(file)
        if image not in schema.names:
            raise DataError(
                f"no column {image!r}", where=file, expected=f"one of {', '.join(schema.names)}",
                nearest=nearest(image, schema.names),
            )  # fmt: skip
        return pyarrow.parquet.read_table(file, columns=[c for c in (image, label) if c in schema.names])
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"not readable as Parquet: {error}", where=file) from None


def _classes(schema: pyarrow.Schema, label: str) -> list[str] | None:
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return about.get("info", {}).get("features", {}).get(label, {}).get("names")
