"""The tensor store: every column decoded once into memory-mapped tensors.

A folder holds one raw file a column, `store.json` with shapes, and the quarantine of that decoding;
its name is a fingerprint of the source and the preprocessing, so the second run starts at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.files import aside, cache_folder, dumps, fingerprint, read_json, write_json, writing
from jichu.core.progress import task

from .decode import UNREADABLE, Header, Preprocess, decode_image, peek_image
from .source import Source, unusable

_VERSION = 2
_CHUNK = 512  # images decoded between two writes
_SMALLEST, _LARGEST = 8, 64  # the range within which a size is inferred
_PEEKED = 2000  # images whose headers are read


@dataclass
class Store:
    """Decoded columns [N, ...], where each row came from, and what could not be decoded."""

    tensors: dict[str, Tensor]
    names: list[str]
    splits: list[str] | None
    about: dict[str, Any]
    quarantine: list[dict[str, Any]]
    preprocess: Preprocess | None
    fingerprint: str


def headers(images: Sequence[Any]) -> dict[int, Header]:
    """The headers of at most 2,000 images, evenly spaced, by row; what cannot be read is left out."""
    found = {}
    for i in range(0, len(images), max(1, math.ceil(len(images) / _PEEKED))):
        with contextlib.suppress(*UNREADABLE):
            found[i] = peek_image(images[i])
    return found


def infer(
    found: Iterable[Header], size: int | str, channels: int | str, resize: str, where: str = ""
) -> Preprocess:
    """Fill in `auto` from the images' headers: the median shorter side, kept between 8 and 64, and
    three channels if any image can hold colour."""
    found = list(found)
    if not found and not (isinstance(size, int) and isinstance(channels, int)):
        raise DataError(
            "none of the images can be read",
            where=where,
            expected="at least one image in a format Pillow opens",
        )
    median = int(statistics.median([min(h.width, h.height) for h in found] or [_SMALLEST]))
    return Preprocess(
        size if isinstance(size, int) else max(_SMALLEST, min(_LARGEST, median)),
        channels if isinstance(channels, int) else 3 if any(h.colour for h in found) else 1,
        resize,
    )


def build(
    source: Source, images: Sequence[Any] | None, preprocess: Preprocess | None, arrays: dict[str, np.ndarray],
    about: dict[str, Any],
) -> Store:  # fmt: skip
    """Decode the images of a source and keep them beside the arrays [N, …], or find all that kept already.
    `about` is what else should be known at the next start."""
    key = fingerprint(
        _VERSION, source.fingerprint, preprocess, list(source.names), source.splits, dumps(about),
        [(name, a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()) for name, a in arrays.items()],
    )  # fmt: skip
    folder = cache_folder() / "store" / key
    if not _is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        with writing(folder), aside(folder) as temporary:
            _decode(source, images, preprocess, arrays, about, temporary)
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.exists():  # another process may have been quicker
                    raise
    return _open(folder, key)


def _is_whole(folder: Path) -> bool:
    """Whether every column is there at its full length."""
    try:
        about = read_json(folder / "store.json")
        return (
            all(
                (folder / name).stat().st_size == about["rows"] * np.dtype(dtype).itemsize * math.prod(shape)
                for name, (dtype, shape) in about["columns"].items()
            )
            and len(about["names"]) == about["rows"]
        )
    except (OSError, DataError, KeyError, TypeError, ValueError):
        return False


def _decode(
    source: Source, images: Sequence[Any] | None, preprocess: Preprocess | None, arrays: dict[str, np.ndarray],
    about: dict[str, Any], folder: Path,
) -> None:  # fmt: skip
    total = len(source.names)
    kept = np.ones(total, bool)
    quarantine = list(source.quarantine)
    shapes: dict[str, Any] = {}
    if images is not None and preprocess is not None:
        shape = [preprocess.channels, preprocess.size, preprocess.size]
        shapes["image"] = ["uint8", shape]
        with open(folder / "image", "wb") as file:
            for i, result in enumerate(_images(images, preprocess)):
                if isinstance(result, str):
                    kept[i] = False
                    quarantine.append(unusable(source.names[i], result))
                else:
                    file.write(result.tobytes())
    if not kept.any():
        raise DataError(
            f"none of the {total} records can be used",
            where=quarantine[0]["record"], expected=quarantine[0]["reason"],
        )  # fmt: skip
    for name, array in arrays.items():
        values = np.ascontiguousarray(array[kept])
        values.tofile(folder / name)
        shapes[name] = [values.dtype.name, list(values.shape[1:])]
    write_json(
        folder / "store.json",
        {
            "rows": int(kept.sum()),
            "columns": shapes,
            "about": about,
            "names": [n for n, k in zip(source.names, kept, strict=True) if k],
            "splits": source.splits and [s for s, k in zip(source.splits, kept, strict=True) if k],
            "quarantine": quarantine,
            "preprocess": preprocess,
        },
    )


def _images(values: Sequence[Any], preprocess: Preprocess) -> Iterator[np.ndarray | str]:
    """Decoded images in order; in the place of one that cannot be decoded, the reason."""

    def one(i: int) -> np.ndarray | str:
        try:
            return decode_image(values[i], preprocess)
        except UNREADABLE as error:
            return str(error) or type(error).__name__

    with ThreadPoolExecutor(os.cpu_count()) as pool, task("decode", len(values)) as shown:
        for start in range(0, len(values), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(values)))
            yield from pool.map(one, chunk)
            shown.advance(len(chunk))


def _open(folder: Path, key: str) -> Store:
    about = read_json(folder / "store.json")
    tensors = {}
    for name, (dtype, shape) in about["columns"].items():
        # "c": private pages, so that nothing written to the tensor can reach the file
        array = np.memmap(folder / name, dtype, "c", shape=(about["rows"], *shape))
        tensors[name] = torch.from_numpy(array)
    preprocess = about["preprocess"] and Preprocess(*about["preprocess"])
    return Store(
        tensors, about["names"], about["splits"], about["about"], about["quarantine"], preprocess, key
    )  # fmt: skip
