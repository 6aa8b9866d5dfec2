"""Rows of different lengths, cut into batches of which little is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_ALIKE, _FEW = 0.6, 4  # lengths that are padded to one another, and rows that are worth a batch of their own


def alike(lengths: np.ndarray, rows: int, most: int | None = None) -> Iterator[slice]:
    """Batches of at most so many rows, and `most` numbers if it is said, of rows whose lengths [N] fall from one to the
    next; much shorter ones are a batch of their own."""
    start = 0
    while start < len(lengths):
        longest = max(1, int(lengths[start]))
        size = min(rows, len(lengths) - start, max(1, most // longest) if most else rows)
        like = max(_FEW, int((lengths[start : start + size] >= _ALIKE * longest).sum()))
        if len(lengths) - start - like >= _FEW:
            size = min(size, like)
        yield slice(start, start + size)
        start += size
