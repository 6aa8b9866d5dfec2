"""What a reader gives back: typed columns as they were found, not yet decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.errors import DataError
from jichu.core.files import fingerprint

SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
UNLABELLED = -1


@dataclass(frozen=True)
class Column:
    """One column. By kind its values are

    image: paths, encoded bytes, or arrays [H, W] or [H, W, C];
    number: float64 [N], NaN where missing; timestamp: datetime64[s] [N], NaT where missing;
    category: int64 codes into `classes`, -1 where missing; tags: float32 [N, K], 1 where the row has
    the tag of `classes`, a row of NaN where missing; text: strings or None;
    cells: an Arrow array as it was read, whose kind is still to be found (`types.typed`).
    `note` says what was odd about it.
    """

    kind: str
    values: Any
    classes: tuple[str, ...] = ()
    note: str = ""


@dataclass
class Source:
    """Columns of equal length; `names[i]` says where row i came from, `splits[i]` which split it
    was found in ("" where the source has none). `fingerprint` changes with the files or values that
    the columns came from; without one the images themselves are hashed."""

    columns: dict[str, Column]
    names: Sequence[str]
    splits: Sequence[str] | None = None
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        lengths = {name: len(column.values) for name, column in self.columns.items()}
        lengths["names"] = len(self.names)
        if len(set(lengths.values())) != 1:
            raise DataError(f"the columns differ in length: {lengths}", expected="equal lengths")
        if not self.names:
            raise DataError("no rows were found", expected="at least one record")
        if not self.fingerprint:
            self.fingerprint = fingerprint(list(self.names), *self._contents())

    def _contents(self) -> Iterator[bytes]:
        """What the image columns hold, for a reader that gives no fingerprint of its own."""
        for column in self.columns.values():
            for value in column.values if column.kind == "image" else ():
                if isinstance(value, (str, Path)):
                    stat = Path(value).stat()
                    yield repr((str(value), stat.st_size, stat.st_mtime_ns)).encode()
                else:
                    yield value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()


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
    return None if text in ("", "-1") else text
