"""What a reader gives back: typed columns as they were found, not yet decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jichu.core.errors import DataError
from jichu.core.files import fingerprint

SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
UNLABELLED = -1
HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which is no text and cannot be written as such


@dataclass(frozen=True)
class Column:
    """One column. By kind its values are

    image: paths, encoded bytes, or arrays [H, W] or [H, W, C]; audio: paths, encoded bytes, or (samples, rate);
    number: float64 [N], NaN where missing; timestamp: datetime64[s] [N], NaT where missing;
    category: int64 codes into `classes`, -1 where missing; tags: float32 [N, K], 1 where the row has
    the tag of `classes`, a row of NaN where missing; text: an Arrow array of strings; chat: such an array of
    conversations in JSON (`chats`); position: numbers int64 [N], to hold out the last rows by;
    cells: an Arrow array as it was read, whose kind is still to be found (`types.typed`).
    `note` says what was odd about it, `faults` why a row of texts cannot be used.
    """

    kind: str
    values: Any
    classes: tuple[str, ...] = ()
    note: str = ""
    faults: Mapping[int, str] = field(default_factory=dict)


class Names(Sequence[str]):
    """Where each row came from, kept in Arrow: ten million take no more than their characters, and are
    mapped from a file as they are."""

    def __init__(self, cells: pa.Array | pa.ChunkedArray | Iterable[str]):
        if isinstance(cells, Names):
            cells = cells.cells
        arrow = isinstance(cells, (pa.Array, pa.ChunkedArray))
        self.cells: Any = cells if arrow else pa.array(cells, pa.large_string())

    @classmethod
    def numbered(cls, prefix: str, numbers: Any) -> Names:
        """`prefix:n` for each of the numbers (or so many, from 0)."""
        counted = pa.array(np.arange(numbers) if isinstance(numbers, int) else numbers, pa.int64())
        kind = pa.large_string()
        return cls(
            pc.binary_join_element_wise(pa.scalar(prefix, kind), counted.cast(kind), pa.scalar(":", kind))
        )

    @classmethod
    def joined(cls, parts: Sequence[Names]) -> Names:
        """One after the other."""
        return cls(pa.chunked_array([c for p in parts for c in p.chunks], pa.large_string()))

    @property
    def chunks(self) -> list[pa.Array]:
        """The pieces in which they lie in memory."""
        return self.cells.chunks if isinstance(self.cells, pa.ChunkedArray) else [self.cells]

    def take(self, rows: Any) -> Names:
        """Those of some rows (numbers [n], or a mask [N])."""
        rows = np.asarray(rows)
        return Names(
            self.cells.filter(pa.array(rows)) if rows.dtype == bool else self.cells.take(pa.array(rows))
        )

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, i: Any) -> Any:
        return Names(self.cells[i]) if isinstance(i, slice) else self.cells[i].as_py()

    def __iter__(self) -> Iterator[str]:
        for chunk in self.chunks:
            for start in range(0, len(chunk), 10_000):
                yield from chunk.slice(start, 10_000).to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


@dataclass
class Source:
    """Columns of equal length; `names[i]` says where row i came from, `splits[i]` which split it
    was found in ("" where the source has none). `files` are all files and folders that were looked at,
    also those that were not there: while none of them changes, nothing is read again. Without them
    `fingerprint` says what was read; and without that too, the columns themselves are hashed."""

    columns: dict[str, Column]
    names: Sequence[str]
    splits: Sequence[str] | None = None
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""
    files: Sequence[Path] | None = None
    encodings: dict[str, str] = field(default_factory=dict)  # of files that are not in UTF-8
    texts: tuple[str, ...] = ()  # columns of texts that are what the source is about

    def __post_init__(self) -> None:
        lengths = {name: len(column.values) for name, column in self.columns.items()}
        lengths["names"] = len(self.names)
        if len(set(lengths.values())) != 1:
            raise DataError(f"the columns differ in length: {lengths}", expected="equal lengths")
        if not len(self.names):
            raise DataError("no rows were found", expected="at least one record")
        if not self.fingerprint and self.files is None:
            self.fingerprint = fingerprint(list(self.names), *self._contents())

    def _contents(self) -> Iterator[object]:
        """What the columns hold."""
        for name, column in self.columns.items():
            values = column.values
            yield name, column.kind, column.classes
            if isinstance(values, (pa.Array, pa.ChunkedArray)):
                yield "\0".join(map(str, values.to_pylist()))
                continue
            if isinstance(values, np.ndarray) and values.dtype != object:
                yield values.dtype.str, values.shape
                yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
                continue
            for value in values:
                if column.kind in ("image", "audio") and isinstance(value, (str, Path)):
                    yield str(value), stamp(value)
                else:
                    parts = value if isinstance(value, tuple) else (value,)  # a sound comes with its rate
                    for part in parts:
                        array = isinstance(part, np.ndarray)
                        yield (part.dtype.str, part.shape, part.tobytes()) if array else part


def stamp(path: str | bytes | Path) -> tuple[int, int, int, int]:
    """Size, times of change and inode of a file, which are others once it has been written to; all 0
    where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def split_named(name: str) -> str:
    """The split that a file's name tells of (`adult-test.csv.gz`), or ""."""
    words = re.split(r"[-_. ]", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def unusable(name: str, reason: str) -> dict[str, Any]:
    """A quarantine record."""
    return {"record": name, "reason": reason}


def label_column(labels: Iterable[Any], classes: Sequence[str] | None = None) -> Column:
    """A label column from class names or codes; None, NaN and -1 mean "no label"."""
    values = [_label(v) for v in labels]
    if classes is None:
        classes = in_order({v for v in values if v is not None})
        codes = {c: i for i, c in enumerate(classes)}
    else:
        codes = {str(i): i for i in range(len(classes))} | {c: i for i, c in enumerate(classes)}
    coded = np.array([UNLABELLED if v is None else codes.get(v, len(codes)) for v in values])
    if (coded == len(codes)).any() and len(codes):
        row = int(np.argmax(coded == len(codes)))
        raise DataError(
            f"the label {values[row]!r} is not one of the {len(classes)} classes",
            where=f"row {row}", expected=f"one of {', '.join(classes[:20])}",
        )  # fmt: skip
    return Column("category", coded.astype(np.int64), tuple(classes))


def number_column(values: np.ndarray, note: str = "") -> Column:
    """A column of numbers [N]; those that a float32 does not hold are taken as missing, which is noted."""
    numbers = values.astype(np.float64)
    beyond = np.abs(numbers) > np.finfo(np.float32).max
    if beyond.any():
        numbers = np.where(beyond, np.nan, numbers)
        told = f"{int(beyond.sum())} cells are infinite or beyond 3e38, taken as missing"
        note = "; ".join(filter(None, [told, note]))
    return Column("number", numbers, note=note)


def distinct(values: np.ndarray) -> int:
    """How many different numbers there are; unlike `np.unique` this sorts nothing."""
    return pc.count_distinct(pa.array(values + 0)).as_py()  # -0.0 is 0.0


def in_order(names: Iterable[str]) -> list[str]:
    """Class names sorted, as numbers where all are."""
    names = set(names)
    return sorted(names, key=int if all(n.isdecimal() and len(n) < 20 for n in names) else None)


def _label(value: Any) -> str | None:
    if value is None or value != value:  # NaN is the one value that differs from itself
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (dict, list, tuple)):
        raise DataError(f"the label {value!r} is a {type(value).__name__}", expected="a name or a number")
    text = str(value)
    if not text.isascii() and (half := HALF.search(text)):
        raise DataError(f"{half[0]!r} in the label {text!r} is half of a surrogate pair", expected="text")
    return None if text in ("", "-1") else text
