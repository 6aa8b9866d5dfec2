"""Parquet with images in the Hugging Face layout: `image` struct{bytes, path}, `label` codes or names.

One file, or a folder of `train*.parquet`, `validation*.parquet`, `test*.parquet`; class names come
from the schema's own metadata or from `labels.txt` beside the files.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from jichu.core.errors import DataError, nearest
from jichu.core.files import fingerprint

from ..source import SPLITS, Column, Source, label_column


def recognises(data: Any) -> bool:
    """A .parquet file, or a folder that holds some."""
    return isinstance(data, Path) and bool(_files(data))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        return [file for file in found if file.is_file()]
    return [path] if path.suffix == ".parquet" else []


class _Cells(Sequence[Any]):
    """Images of one column, taken out of Arrow one at a time: bytes, or the paths of files."""

    def __init__(self, parts: list[tuple[Path, pyarrow.ChunkedArray]]):
        self._ends = list(itertools.accumulate(len(column) for _, column in parts))
        self._parts = parts

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: Any) -> Any:
        part = bisect.bisect_right(self._ends, i)
        folder, column = self._parts[part]
        value = column[i - (self._ends[part - 1] if part else 0)].as_py()
        return folder / value if isinstance(value, str) else value


def read(path: Path, image: str = "image", label: str = "label") -> Source:
    """Columns `image` and, where the file has one, `label`; `image` and `label` are the columns' names there."""
    path = Path(path)
    if not _files(path):
        raise DataError(f"no Parquet in {path}", expected="a .parquet file, or a folder of them")
    cells: list[tuple[Path, pyarrow.ChunkedArray]] = []
    labels: list[Any] = []
    splits, names, stats = [], [], []
    classes: list[str] | None = None
    for file in _files(path):
        table = _table(file, image, label)
        classes = classes or _classes(table.schema, label)
        cells.append((file.parent, _images(table[image], file)))
        labels += table[label].to_pylist() if label in table.column_names else [None] * len(table)
        split = SPLITS.get(re.split(r"[-_.]", file.name)[0].lower(), "")
        splits += [split] * len(table)
        names += [f"{file.name}:{i}" for i in range(len(table))]
        stats.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    if classes is None and (path / "labels.txt").exists():
        classes = _lines(path / "labels.txt")
    columns = {"image": Column("image", _Cells(cells))}
    if any(value is not None for value in labels):
        columns["label"] = label_column(labels, classes)
    key = fingerprint(str(path.resolve()), stats, image, label, classes)
    return Source(columns, names, splits if any(splits) else None, [], key)


def _images(column: pyarrow.ChunkedArray, file: Path) -> pyarrow.ChunkedArray:
    kind = column.type
    if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return pyarrow.compute.struct_field(column, "bytes")
    binary = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
    if binary or pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        return column
    raise DataError(
        f"the image column is of type {kind}",
        where=file,
        expected="struct{bytes, path}, binary, or file names",
    )


def _lines(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", where=file) from None
    names = [name for name in names if name]
    if len(set(names)) < len(names):
        raise DataError("a class name stands there twice", where=file, expected="one line for each class")
    return names


def _table(file: Path, image: str, label: str) -> pyarrow.Table:
    try:
        schema = pyarrow.parquet.read_schema(file)
        if image not in schema.names:
            raise DataError(
                f"no column {image!r}", where=file, expected=f"one of {', '.join(schema.names)}",
                nearest=nearest(image, schema.names),
            )  # fmt: skip
        return pyarrow.parquet.read_table(file, columns=[c for c in (image, label) if c in schema.names])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"not readable as Parquet: {error}", where=file) from None


def _classes(schema: pyarrow.Schema, label: str) -> list[str] | None:
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return about.get("info", {}).get("features", {}).get(label, {}).get("names")
    except (ValueError, AttributeError):  # somebody else's metadata under that name
        return None
