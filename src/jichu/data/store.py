"""The tensor store: every column decoded once into memory-mapped tensors.

`store/<key>/` in the cache holds one raw file a column (of texts a second one, of where each begins), the
rows' names, what each file that was read held, and `store.json`; its key is made of what was read and how, and it never changes. `starts/<key>.parquet`
says for a path which store it led to, and size, times and inode of every file and folder that was looked
at: as long as none of these changes, the next start reads nothing else.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.files import (
    aside,
    cache_folder,
    fingerprint,
    fingerprint_of_file,
    read_json,
    read_table,
    write_json,
    write_table,
    writing,
)
from jichu.core.progress import task

from .duplicates import digest, groups_of
from .mapped import column, ragged
from .media import DECODERS, KINDS, AnyHeader, How
from .ragged import Ragged
from .source import Column, Names, Source, stamp, unusable
from .texts import TEXT, TEXT_2, equal_texts, faults, write

_VERSION = 7  # of the form of the store, and of what is made of the same files
_AHEAD = 64 * 2**20  # bytes of what is decoded between two writes
_TICK = 20_000_000  # ns by which a file's time may lie behind the clock
_STAMP = ("size", "mtime", "ctime", "inode")  # what `stamp` gives
_SHOWN = 5  # files named in a message
_NAMES, _FILES = "names.arrow", "files.parquet"
EQUAL = "(equal)"  # the column of groups of equal images, sounds, texts or rows


@dataclass
class Store:
    """Decoded columns [N, ...], where each row came from, and what else was found. `contents` is the
    fingerprint of what was read."""

    folder: Path
    tensors: dict[str, Tensor]
    names: Names
    contents: str
    quarantine: list[dict[str, Any]]
    preprocess: How | None
    headers: dict[int, AnyHeader]  # of some images or sounds, by row
    about: dict[str, Any]
    texts: dict[str, Ragged]  # uint8

    @property
    def files(self) -> pa.Table | None:
        """The files that were read: `file`, `bytes` and `digest`; None where it was something else."""
        path = self.folder / _FILES
        return read_table(path) if path.exists() else None


# --- what was read, and whether it is as it was


def recall(place: str, how: str) -> Store | None:
    """The store that a path led to when it was read in this way, if all files are as they were then."""
    try:
        table = read_table(_start(place, how))
        then = zip(*(table[name].to_pylist() for name in ("path", *_STAMP)), strict=True)
        if all(stamp(path) == tuple(was) for path, *was in then):
            return opened((table.schema.metadata or {}).get(b"store", b"").decode())
    except (OSError, DataError, KeyError):
        pass  # there is none, or it is damaged
    return None


def remember(place: str, how: str, store: Store, files: Iterable[Path], began: int) -> None:
    """Keep which store a path leads to; not where a file was written to after the reading `began` (in ns
    of the clock): what was read may then be what was before."""
    paths = [os.fsencode(os.path.abspath(f)) for f in dict.fromkeys(files)]
    stamps = np.array([stamp(path) for path in paths], np.uint64)
    if (stamps[:, _STAMP.index("ctime")] > began - _TICK).any():
        return
    table = pa.table({"path": paths, **dict(zip(_STAMP, stamps.T, strict=True))})
    write_table(_start(place, how), table.replace_schema_metadata({"store": store.folder.name}))


def _start(place: str, how: str) -> Path:
    return cache_folder() / "starts" / f"{fingerprint(_VERSION, place, how, DECODERS)}.parquet"


def listing(files: Iterable[Path], place: str) -> pa.Table:
    """What each file holds, by its name relative to `place`; folders and what is not there are left out."""
    root = place if os.path.isdir(place) else os.path.dirname(place)
    found = [f for f in dict.fromkeys(files) if os.path.isfile(f)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(fingerprint_of_file, found))
    names = [os.fsencode(os.path.relpath(f, root)).decode("utf-8", "backslashreplace") for f in found]
    return pa.table({"file": names, "bytes": [os.path.getsize(f) for f in found], "digest": digests})


def changes(before: pa.Table | None, now: pa.Table | None) -> Iterator[str]:
    """In words, how two listings of files differ."""
    was, found = (
        dict(zip(t["file"].to_pylist(), t["digest"].to_pylist(), strict=True)) if t else {}
        for t in (before, now)
    )
    for what, files in (
        ("new", [f for f in found if f not in was]),
        ("gone", [f for f in was if f not in found]),
        ("changed", [f for f in found if was.get(f, found[f]) != found[f]]),
    ):  # fmt: skip
        if files:
            shown = ", ".join(files[:_SHOWN]) + (", …" if len(files) > _SHOWN else "")
            yield f"{len(files)} {'file is' if len(files) == 1 else 'files are'} {what}: {shown}"


# --- stores


def key_of(contents: str, how: str) -> str:
    """The name of the store of these contents, read in this way."""
    return fingerprint(_VERSION, contents, how, DECODERS)


def opened(key: str) -> Store | None:
    """The store of that name; None where there is none, or a damaged one."""
    folder = cache_folder() / "store" / key
    try:
        about = read_json(folder / "store.json")
        tensors = {n: column(folder / n, about["rows"], *how) for n, how in about["columns"].items()}
        texts = {n: ragged(folder / n, about["rows"], total, "uint8") for n, total in about["texts"].items()}
        with pa.memory_map(str(folder / _NAMES)) as file:
            names = Names(pa.ipc.open_file(file).read_all()["name"])
        if not key or len(names) != about["rows"]:
            return None
        medium = KINDS.get(about["medium"])
        return Store(
            folder, tensors, names, about["contents"], about["quarantine"],
            medium and medium.how(*about["preprocess"]),
            {int(row): medium.header(*h) for row, h in about["headers"].items()} if medium else {},
            about["about"], texts,
        )  # fmt: skip
    except (OSError, DataError, pa.ArrowException, KeyError, TypeError, ValueError, AttributeError):
        return None


def build(
    key: str, contents: str, files: pa.Table | None, source: Source, media: Sequence[Any],
    preprocess: How | None, arrays: dict[str, np.ndarray], found: dict[int, AnyHeader], about: dict[str, Any],
    texts: Mapping[str, tuple[str, Column]],
) -> Store:  # fmt: skip
    """Decode the images or sounds of a source and keep them beside the arrays [N, …] and the texts, which are columns
    and what they are called there. `found` are headers, `about` is what else should be known at the next
    start."""
    folder = cache_folder() / "store" / key
    with writing(folder), aside(folder) as temporary:
        kept, quarantine, shapes = np.ones(len(source.names), bool), list(source.quarantine), {}
        if preprocess is not None:
            equal = _decode(media, preprocess, source.names, kept, quarantine, temporary / preprocess.kind)
            shapes[preprocess.kind] = [preprocess.dtype, preprocess.shape]
            arrays = {**arrays, EQUAL: equal}
        for part, (name, cells) in texts.items():
            if part in (TEXT, TEXT_2):
                for i, reason in faults(name, cells.values, cells.faults):
                    if kept[i]:
                        kept[i] = False
                        quarantine.append(unusable(source.names[i], reason))
        if not kept.any():
            raise DataError(
                f"none of the {len(kept)} records can be used",
                where=quarantine[0]["record"], expected=quarantine[0]["reason"],
            )  # fmt: skip
        for name, array in arrays.items():
            values = np.ascontiguousarray(array if kept.all() else array[kept])
            with _flushed(temporary / name) as file:
                file.write(values)  # numpy's tofile says nothing of a disk that is full
            shapes[name] = [values.dtype.name, list(values.shape[1:])]
        totals = {}
        for part, (_, cells) in texts.items():
            with _flushed(temporary / part) as values, _flushed(temporary / f"{part}.offsets") as offsets:
                totals[part] = write(cells.values, kept, values, offsets)
        if TEXT in texts and EQUAL not in shapes:
            read = [n for n in (TEXT, TEXT_2) if n in totals]
            columns = [ragged(temporary / n, int(kept.sum()), totals[n], "uint8") for n in read]
            with _flushed(temporary / EQUAL) as file:
                file.write(np.ascontiguousarray(equal_texts(columns)))
            shapes[EQUAL] = ["int64", []]
        _write_names(source.names, kept, temporary / _NAMES)
        if files is not None:
            with _flushed(temporary / _FILES) as file:
                pq.write_table(files, file)
        row = kept.cumsum() - 1
        headers = {int(row[i]): header for i, header in found.items() if kept[i]}
        write_json(temporary / "store.json", {
            "rows": int(kept.sum()), "columns": shapes, "contents": contents, "preprocess": preprocess,
            "medium": preprocess and preprocess.kind,
            "headers": headers, "about": about, "quarantine": quarantine, "texts": totals,
        })  # fmt: skip
        try:
            os.replace(temporary, folder)
        except OSError:
            if opened(key) is None:  # a damaged one stands there, and not that of a process that was quicker
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(temporary, folder)
    made = opened(key)
    if made is None:
        raise DataError("what was just decoded cannot be opened", where=folder, expected="a cache of its own")
    return made


@contextlib.contextmanager
def _flushed(path: Path) -> Iterator[Any]:
    """A file that is on the disk when the block has ended."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write_names(names: Sequence[str], kept: np.ndarray, path: Path) -> None:
    names = Names(names)
    table = pa.table({"name": (names if kept.all() else names.take(kept)).cells})
    with _flushed(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


# --- images and sounds


def _decode(
    items: Sequence[Any], preprocess: How, names: Sequence[str], kept: np.ndarray,
    quarantine: list[dict[str, Any]], path: Path,
) -> np.ndarray:  # fmt: skip
    """Write what they are decoded to to `path`, one after the other, and take those that cannot be decoded out of `kept`
    and into the quarantine. Gives groups [N] of equal ones."""
    digests = []
    with _flushed(path) as file:
        for i, result in enumerate(_decoded(items, preprocess)):
            if isinstance(result, str):
                kept[i] = False
                quarantine.append(unusable(names[i], result))
                digests.append(bytes(8))
            else:
                file.write(result[0].data)
                digests.append(result[1])
    return groups_of(digests)


def _decoded(values: Sequence[Any], preprocess: How) -> Iterator[tuple[np.ndarray, bytes] | str]:
    """Tensors in order, each with a digest; in the place of one that cannot be decoded, the reason."""

    def one(i: int) -> tuple[np.ndarray, bytes] | str:
        try:
            tensor = medium.decode(values[i], preprocess)
            return tensor, digest(tensor)
        except medium.unreadable as error:
            return str(error) or type(error).__name__

    medium = KINDS[preprocess.kind]
    size = math.prod(preprocess.shape) * np.dtype(preprocess.dtype).itemsize
    ahead = max(16, min(512, _AHEAD // size))
    with ThreadPoolExecutor(os.cpu_count()) as pool, task("decode", len(values)) as shown:
        for start in range(0, len(values), ahead):
            chunk = range(start, min(start + ahead, len(values)))
            yield from pool.map(one, chunk)
            shown.advance(len(chunk))
