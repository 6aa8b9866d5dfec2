"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in the python and in the binary version.

The python version is pickled. It is not unpickled: `inert.load` reads the data and calls nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jichu.core.errors import DataError

from ..formats import delimited, inert
from ..source import Column, Names, Source, split_named

_SHAPE = (3, 32, 32)
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")


class _Version(NamedTuple):
    files: tuple[str, ...]
    names: str  # the file of class names
    label_bytes: int = 0  # before each image of the binary version; the last is the class


_VERSIONS = (
    _Version((*_BATCHES, "test_batch"), "batches.meta"),
    _Version((*(f"{b}.bin" for b in _BATCHES), "test_batch.bin"), "batches.meta.txt", 1),
    _Version(("train", "test"), "meta"),
    _Version(("train.bin", "test.bin"), "fine_label_names.txt", 2),
)


def _found(path: Path) -> tuple[Path, _Version] | None:
    for folder in (path, *(path / name for name in _FOLDERS)):
        for version in _VERSIONS:
            if (folder / version.names).is_file() and any((folder / f).is_file() for f in version.files):
                return folder, version
    return None


def recognises(data: Any) -> bool:
    """A folder with the files of one of the four versions."""
    return isinstance(data, Path) and data.is_dir() and _found(data) is not None


def read(path: Path) -> Source:
    """Columns `image` [32, 32, 3] and `label` (CIFAR-100: the fine one)."""
    path = Path(path)
    found = _found(path)
    if found is None:
        raise DataError(f"no CIFAR in {path}", expected=" or ".join(v.files[0] for v in _VERSIONS))
    folder, version = found
    images, labels, names, splits, files = [], [], [], [], [path, folder, folder / version.names]
    for file in (folder / name for name in version.files):
        if not file.exists():
            continue
        pixels, codes = _binary(file, version.label_bytes) if version.label_bytes else _pickled(file)
        images.append(pixels.transpose(0, 2, 3, 1))
        labels.append(codes)
        names.append(Names.numbered(file.name, len(codes)))
        splits += [split_named(file.name) or "train"] * len(codes)
        files.append(file)
    classes = _classes(folder / version.names, bool(version.label_bytes))
    codes = np.concatenate(labels).astype(np.int64)
    if codes.max() >= len(classes):
        raise DataError(
            f"labels up to {codes.max()}",
            where=folder, expected=f"less than {len(classes)}, as {version.names} names so many classes",
        )  # fmt: skip
    columns = {
        "image": Column("image", np.concatenate(images)),
        "label": Column("category", codes, tuple(classes)),
    }
    return Source(columns, Names.joined(names), splits, files=files)


def _pickled(file: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = inert.load(file)
    labels, data = batch.get("labels", batch.get("fine_labels")), batch.get("data")
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(c, int) and 0 <= c < 256 for c in labels)
    ):
        raise DataError(
            "no list of labels from 0 to 255 in it",
            where=file, expected="a batch of CIFAR's python version",
        )  # fmt: skip
    if not isinstance(data, np.ndarray) or data.shape != (len(labels), 3072):
        found = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"its data are {found}", where=file, expected=f"({len(labels)}, 3072) bytes")
    return data.reshape(-1, *_SHAPE), np.array(labels)


def _binary(file: Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    raw = np.frombuffer(file.read_bytes(), np.uint8)
    record = label_bytes + 3072
    if not len(raw) or len(raw) % record:
        raise DataError(f"{len(raw)} bytes", where=file, expected=f"a multiple of {record}")
    rows = raw.reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, *_SHAPE), rows[:, label_bytes - 1]


def _classes(file: Path, plain: bool) -> list[str]:
    if plain:
        found = delimited.decode(file.read_bytes(), file)
        return [line.strip() for line in found.split("\n") if line.strip()]
    meta = inert.load(file)
    names = meta.get("label_names", meta.get("fine_label_names"))
    if not isinstance(names, list) or not all(isinstance(n, (str, bytes)) for n in names):
        raise DataError("no class names in it", where=file, expected="label_names or fine_label_names")
    return [inert.text(n) for n in names]
