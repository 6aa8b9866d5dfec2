"""MNIST's idx files (LeCun's format), plain or .gz: `*-images-idx3-ubyte` beside `*-labels-idx1-ubyte`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.errors import DataError

from ..formats.delimited import contents
from ..source import Column, Names, Source, label_column

_IMAGES = re.compile(r"(train|t10k|test|val\w*)?.*images.*idx3", re.IGNORECASE)
_SPLIT = {"train": "train", "t10k": "test", "test": "test"}
_UBYTE = 0x08


def _image_files(data: Path) -> list[Path]:
    candidates = sorted(data.iterdir()) if data.is_dir() else [data]
    return [p for p in candidates if _IMAGES.match(p.name) and p.is_file()]


def recognises(data: Any) -> bool:
    """A folder that holds image idx files, or one such file."""
    return isinstance(data, Path) and bool(_image_files(data))


def load(path: Path) -> np.ndarray:
    """The array in one idx file of unsigned bytes. DataError where header and length disagree."""
    raw = contents(path, 4 + 4 * 4)
    if len(raw) < 4 or raw[0] or raw[1] or not 1 <= raw[3] <= 4:
        raise DataError(f"not an idx file: it begins with {raw[:4]!r}", where=path)
    if raw[2] != _UBYTE:
        raise DataError(f"idx type 0x{raw[2]:02x}", where=path, expected="0x08, unsigned bytes")
    head = 4 + 4 * raw[3]
    if len(raw) < head:
        raise DataError(f"the file ends within its header of {head} bytes", where=path)
    shape = [int(n) for n in np.frombuffer(raw[4:head], dtype=">u4")]
    promised = math.prod(shape)
    raw = contents(path, head + promised + 1)  # no more, whatever a .gz would unpack to
    if len(raw) - head != promised:
        found = len(raw) - head if len(raw) - head < promised else "more"
        raise DataError(
            f"the header promises {' × '.join(map(str, shape))} = {promised} bytes, the file holds {found}",
            where=path,
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def read(path: Path) -> Source:
    """Columns `image` [28, 28] or whatever the header says, and `label` where the file is there."""
    path = Path(path)
    images: list[np.ndarray] = []
    labels: list[int | None] = []
    names: list[Names] = []
    splits, files = [], [path]
    for file in _image_files(path):
        array = load(file)
        if array.ndim != 3 or not array.size:
            raise DataError(
                f"idx of shape {array.shape}", where=file, expected="[N, H, W], none of them zero"
            )
        codes = _labels(file, len(array))
        match = _IMAGES.match(file.name)
        split = _SPLIT.get((match.group(1) or "").lower(), "") if match else ""
        images.extend(array)
        labels.extend(codes)
        splits.extend([split] * len(array))
        names.append(Names.numbered(file.name, len(array)))
        files += [file, _label_file(file)]
    columns = {"image": Column("image", images)}
    if any(code is not None for code in labels):
        columns["label"] = label_column(labels)
    return Source(columns, Names.joined(names), splits if any(splits) else None, files=files)


def _label_file(images: Path) -> Path:
    return images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))


def _labels(images: Path, count: int) -> list[int | None]:
    file = _label_file(images)
    if not file.exists():
        return [None] * count
    codes = load(file)
    if codes.shape != (count,):
        raise DataError(
            f"labels of shape {codes.shape} for {count} images", where=file, expected=f"({count},)"
        )
    return [int(c) for c in codes]
