"""Columns that are mapped from files, and may be larger than memory."""

from __future__ import annotations

import math
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.core.devices import memory_available

from .ragged import Ragged

_SHARE = 0.5  # of the free memory, that a column may have and be read ahead by the system
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def column(path: Path, rows: int, dtype: str, shape: list[int]) -> Tensor:
    """A column [rows, …] as it lies in its file. ValueError where the file is of another length."""
    each = math.prod(shape) * np.dtype(dtype).itemsize
    if path.stat().st_size != rows * each:
        raise ValueError(f"{path} is not whole")
    if not rows * each:
        return torch.from_numpy(np.empty((rows, *shape), dtype))
    # private pages, so that nothing written to the tensor can reach the file; without a reservation,
    # because the column may be larger than memory
    private = hasattr(mmap, "MAP_PRIVATE")
    kind: Any = {"flags": mmap.MAP_PRIVATE | _NO_RESERVE} if private else {"access": mmap.ACCESS_COPY}
    with open(path, "rb") as file:
        area = mmap.mmap(file.fileno(), rows * each, **kind)
    tensor: Any = torch.from_numpy(np.frombuffer(area, dtype).reshape(rows, *shape))
    if rows * each > _SHARE * memory_available(torch.device("cpu")) and hasattr(area, "madvise"):
        # else the system would read megabytes around every row, and have no room to keep them
        area.madvise(mmap.MADV_RANDOM)
        tensor.mapped = area, each
    return tensor


def ragged(path: Path, rows: int, total: int, dtype: str) -> Ragged:
    """A column of rows of different lengths, `total` values together, as it lies in `path` and
    `path.offsets`. ValueError where a file is of another length."""
    offsets = column(path.with_name(f"{path.name}.offsets"), rows + 1, "int64", [])
    if int(offsets[0]) or int(offsets[-1]) != total:
        raise ValueError(f"{path} is not whole")
    return Ragged(column(path, total, dtype, []), offsets)


def fetch(tensor: Tensor, rows: Tensor) -> None:
    """Begin to read some rows of a column that does not fit into memory, all at once."""
    area, each = getattr(tensor, "mapped", (None, 0))
    if area is not None:
        for row in rows.tolist():
            start = row * each // mmap.PAGESIZE * mmap.PAGESIZE
            area.madvise(mmap.MADV_WILLNEED, start, (row + 1) * each - start)
