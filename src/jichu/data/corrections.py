"""Right answers that people told a server (`jichu serve --set keep=FOLDER`), beside the data of the run that was asked.

The rows of the run keep their splits; what people told is in the training split, and no row of it that is held out too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jichu.core.config import check, read_yaml
from jichu.core.errors import DataError, UsageError
from jichu.core.files import fingerprint
from jichu.core.progress import say

from . import given, requests
from .config import IN_MEMORY, DataConfig
from .dataset import Dataset
from .duplicates import equal_rows
from .load import load
from .media import KINDS
from .personal import without
from .readers import read as read_any
from .source import UNLABELLED, Column, Names, Source, stamp, unusable
from .texts import text_of, to_read


@dataclass
class _Told:
    """Right answers whose inputs are known: by column, with the lines they stand on; and those that cannot be used."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)


def corrected(path: Path, run: str | None = None) -> Source:
    """The run's own rows with their splits, and the right answers in `train`. `run` is the run's folder, by default the one
    that was served. DataError where nobody has told anything that can be used."""
    folder = requests.folder_of(Path(path))
    if folder is None:
        raise DataError(f"no feedback in {path}", expected="a folder of jichu serve --set keep=FOLDER")
    place = Path(run) if run else requests.served_run(folder)
    config, seed = _of_run(place)
    own, dataset = read_any(config.path, config.reader), load(config.path, config, seed=seed)
    media = next((name for name, column in own.columns.items() if column.kind in KINDS), None)
    told = _told(folder, dataset, media)
    _leave_out(told, dataset)
    if not told.rows:
        why = told.faults[0]["reason"] if told.faults else "nobody has told anything"
        raise DataError(f"no right answer can be used: {why}", where=folder / requests.FEEDBACK)
    say(f"{len(told.rows)} right answers beside the rows of {config.path}; {len(told.faults)} cannot be used")
    splits = {n: split for split, rows in dataset.splits.items() for n in dataset.names.take(rows.numpy())}
    kept = np.array([name in splits for name in own.names], bool)
    names = list(Names(own.names).take(kept))
    columns = {
        name: _joined(name, column, kept, [row.get(name) for row in told.rows], folder)
        for name, column in own.columns.items()
    }
    files = [folder / requests.FEEDBACK, place / "recipe.yaml", *requests.files_of(folder)]
    together = {"files": [*own.files, *files]} if own.files else {}
    return Source(
        columns, [*names, *told.names], [*(splits[name] for name in names), *["train"] * len(told.rows)],
        [*own.quarantine, *told.faults], fingerprint(own.fingerprint, *map(stamp, files)), encodings=own.encodings,
        texts=own.texts, **together,
    )  # fmt: skip


def _of_run(run: Path) -> tuple[DataConfig, int]:
    """What a run says of its data. UsageError where they cannot be read again."""
    recipe = run / "recipe.yaml"
    if not recipe.exists():
        raise UsageError(
            f"no run at {run}, which was served", where="data.reader.run", expected="where it is now"
        )
    tree = read_yaml(recipe)
    config = check(DataConfig, tree["data"], where=str(recipe))
    if config.path == IN_MEMORY or config.series is not None:
        raise UsageError(
            f"the data of {run} were given in memory or are series", where=recipe, expected="a run on files"
        )
    return config.model_copy(update={"canaries": None}), tree.get("seed", 0)


# --- what was told


def _told(folder: Path, dataset: Dataset, media: str | None) -> _Told:
    """Right answers joined with what was asked; `media` is the column of images or sounds."""
    kept, faults = _Kept(folder), []
    last: dict[str, tuple[str, dict[str, Any]]] = {}  # by what was asked
    for number, line in requests.corrections(folder):
        name, given = f"{requests.FEEDBACK}:{number}", line.get("input")
        inputs = kept.of(line.get(requests.REQUEST), line.get(requests.ROW)) if given is None else [given]
        if len(inputs) != 1:
            why = "the id was used for several requests" if inputs else "its input was not kept"
            faults.append(unusable(name, why))
            continue
        cells = _cells(inputs[0], dataset, folder, media)
        same = fingerprint({column: _told_by(cell) for column, cell in sorted(cells.items())})
        last.pop(same, None)
        last[same] = name, cells | line["answer"]
    return _Told([row for _, row in last.values()], [name for name, _ in last.values()], faults)


def _told_by(cell: Any) -> str:
    """What is the same of a number however it is written, and of a file and its bytes."""
    if isinstance(cell, bytes):
        return fingerprint(cell)
    return cell.name if isinstance(cell, Path) else str(float(cell) if isinstance(cell, int) else cell)


class _Kept:
    """The inputs of requests that were kept."""

    def __init__(self, folder: Path):
        self._folder = folder

    @cached_property
    def _table(self) -> pa.Table | None:
        return requests.read_requests(self._folder)

    @cached_property
    def _places(self) -> dict[tuple[Any, Any], list[int]]:
        found: dict[tuple[Any, Any], list[int]] = {}
        if self._table is not None:
            keys = [self._table[name].to_pylist() for name in (requests.REQUEST, requests.ROW)]
            for place, key in enumerate(zip(*keys, strict=True)):
                found.setdefault(key, []).append(place)
        return found

    def of(self, request: Any, row: Any) -> list[dict[str, Any]]:
        """The different inputs of one row: none where it was not kept, or only in part, and several where clients sent the
        same id with more than one request."""
        found: list[dict[str, Any]] = []
        columns = requests.named(self._table, requests.INPUT) if self._table is not None else {}
        for place in self._places.get((request, row), []):
            cells = {name: column[place].as_py() for name, column in columns.items()}
            if cells not in found:
                found.append(cells)
        known = [cells for cells in found if any(cell is not None for cell in cells.values())]
        return found if known else []


def _cells(given: Any, dataset: Dataset, folder: Path, media: str | None) -> dict[str, Any]:
    """An input by the columns of the run's data."""
    if media is not None:  # bytes that were kept, or a file that came with the answer
        own = given.get("file")
        return {media: folder / requests.INPUTS / Path(own).name if own else next(iter(given.values()))}
    if dataset.kind == "text":
        texts = given if isinstance(given, list) else given.values()
        return dict(zip(dataset.text_columns, texts, strict=True))
    return dict(given)


def _leave_out(told: _Told, dataset: Dataset) -> None:
    """Rows that are held out go, be they told as they are or without personal data; equal images are left out where the
    splits are made."""
    held_out = [rows for name, rows in dataset.splits.items() if name != "train"]
    compare = {"table": _equal_cells, "text": _equal_texts}.get(dataset.kind)
    if compare is None or not told.rows or not held_out:
        return
    leaks = compare(told.rows, dataset, torch.cat(held_out))
    told.faults += [
        unusable(name, "exact duplicate of a held-out record") for name, leak in zip(told.names, leaks, strict=True) if leak
    ]  # fmt: skip
    told.rows = [row for row, leak in zip(told.rows, leaks, strict=True) if not leak]
    told.names = [name for name, leak in zip(told.names, leaks, strict=True) if not leak]


def _equal_cells(told: list[dict[str, Any]], dataset: Dataset, rows: Tensor) -> list[bool]:
    """Which told rows of a table are equal to one of the data's."""
    hidden = {n: list(map(without, known)) for n, known in dataset.table.categories.items()}
    table = replace(dataset.table, categories={n: tuple(dict.fromkeys(names)) for n, names in hidden.items()})
    mine = given.rows(told, table, DataConfig(path=IN_MEMORY), {}).tensors
    other = {name: dataset.tensors[name][rows].numpy() for name in mine}
    for i, (name, known) in enumerate(table.categories.items()):
        codes = np.array([0, *(known.index(word) + 1 for word in hidden[name])])
        other["categories"][:, i] = codes[other["categories"][:, i]]
    groups = equal_rows({name: np.concatenate([block, other[name]]) for name, block in mine.items()})
    return np.isin(groups[: len(told)], groups[len(told) :]).tolist()


def _equal_texts(told: list[dict[str, Any]], dataset: Dataset, rows: Tensor) -> list[bool]:
    """Which told texts are equal to one of the data's."""
    read = to_read(dataset.texts, dataset.chat).values()
    held = {tuple(without(text_of(texts, row)) for texts in read) for row in rows.tolist()}
    return [tuple(without(row[name]) for name in dataset.text_columns) in held for row in told]


# --- both together


def _joined(name: str, column: Column, kept: np.ndarray, values: list[Any], folder: Path) -> Column:
    """A column of the run's rows, with the values that were told below."""
    join = _JOINS.get(column.kind)
    if join is None:
        raise UsageError(
            f"the column {name!r} is of kind {column.kind}, which no one tells right answers of", where=folder,
            expected="images, sounds, texts or a table",
        )  # fmt: skip
    found, classes = join(column, kept, values)
    return Column(column.kind, found, classes, column.note)


def _cells_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    """Of an Arrow column; as texts where the new ones are of another type."""
    own, classes = column.values.filter(pa.array(kept)), column.classes
    if pa.types.is_dictionary(own.type):
        own = own.cast(own.type.value_type)
    if classes and not pa.types.is_string(own.type):  # codes
        classes = tuple(dict.fromkeys([*classes, *(v for v in values if v is not None)]))
        values = [None if v is None else classes.index(v) for v in values]
    try:
        below = pa.array(values, own.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        own = own.cast(pa.string())
        below = pa.array([None if v is None else _plainly(v) for v in values], pa.string())
    chunks = own.chunks if isinstance(own, pa.ChunkedArray) else [own]
    return pa.chunked_array([*chunks, below], own.type), classes


def _plainly(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _texts_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    own = pc.cast(column.values.filter(pa.array(kept)), pa.large_string())
    chunks = own.chunks if isinstance(own, pa.ChunkedArray) else [own]
    return pa.chunked_array([*chunks, pa.array(values, pa.large_string())]), ()


def _numbers_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    below = [np.nan if v is None else v for v in values]
    return np.concatenate([column.values[kept], np.array(below, np.float64)]), ()


def _places_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    own = column.values[kept]
    return np.concatenate([own, own.max(initial=0) + 1 + np.arange(len(values))]), ()


def _codes_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    classes = tuple(dict.fromkeys([*column.classes, *(v for v in values if v is not None)]))
    below = [UNLABELLED if v is None else classes.index(v) for v in values]
    return np.concatenate([column.values[kept], np.array(below, np.int64)]), classes


class _Media(Sequence[Any]):
    """Images or sounds of which some are taken, and others follow; none is read before it is wanted."""

    def __init__(self, own: Any, rows: list[int], below: list[Any]):
        self._own, self._rows, self._below = own, rows, below

    def __len__(self) -> int:
        return len(self._rows) + len(self._below)

    def __getitem__(self, i: Any) -> Any:
        i = range(len(self))[i]
        return self._own[self._rows[i]] if i < len(self._rows) else self._below[i - len(self._rows)]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


def _media_below(column: Column, kept: np.ndarray, values: list[Any]) -> tuple[Any, tuple[str, ...]]:
    return _Media(column.values, np.flatnonzero(kept).tolist(), values), ()


_JOINS = {
    "cells": _cells_below, "text": _texts_below, "number": _numbers_below, "position": _places_below,
    "category": _codes_below, "image": _media_below, "audio": _media_below,
}  # fmt: skip
