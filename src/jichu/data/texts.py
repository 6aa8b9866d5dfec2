"""Columns of texts: which cannot be used, how they are kept, and which are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jichu.core.errors import DataError

from .duplicates import groups_of
from .ragged import Ragged

TEXT, TEXT_2 = "text", "text_2"  # the texts to be read: the first, and the second of a pair
_ROWS, _BYTES = 2**14, 2**26  # of cells that are handled together
_CONTROLS = 0.05  # share of control characters from which a text is none
_BLANK, _CONTROL = np.zeros(256, bool), np.zeros(256, bool)
_BLANK[[9, 10, 11, 12, 13, 32]] = True
_CONTROL[[*range(1, 9), *range(14, 32), 127]] = True


def pieces(cells: pa.ChunkedArray | pa.Array) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some rows at a time of an Arrow column of strings: their bytes uint8, offsets int64 [n + 1] into
    these, and whether there is a text at all, bool [n]. Nothing is copied but the offsets."""
    for chunk in cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]:
        if pa.types.is_string_view(chunk.type):
            chunk = chunk.cast(pa.large_string())
        for start in range(0, len(chunk), _ROWS):
            yield _plain(chunk.slice(start, _ROWS))


def _plain(part: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _, at, data = part.buffers()
    kind = np.int64 if pa.types.is_large_string(part.type) else np.int32
    offsets = np.frombuffer(at, kind)[part.offset : part.offset + len(part) + 1].astype(np.int64)
    values = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    there = part.is_valid().to_numpy(zero_copy_only=False)
    return values[offsets[0] : offsets[-1]], offsets - offsets[0], there


def faults(name: str, cells: Any, known: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """The rows of a column that hold no text, with the reason; `known` are reasons found before."""
    start = 0
    for values, offsets, there in pieces(cells):
        nul, control = (_sums(marks, offsets) for marks in (values == 0, _CONTROL[values]))
        lengths = np.diff(offsets)
        solid = lengths > 0
        solid[solid] = ~_BLANK[values[offsets[:-1][solid]]]
        for i in np.flatnonzero(~solid & (lengths > 0)).tolist():  # begins with a blank
            solid[i] = bool((~_BLANK[values[offsets[i] : offsets[i + 1]]]).any())
        bad = ~solid | (nul > 0) | (control > _CONTROLS * lengths) | ~there
        for i in bad.nonzero()[0].tolist():
            if start + i in known:
                why = known[start + i]
            elif not there[i] or not solid[i]:
                why = f"no text in the column {name}"
            elif nul[i]:
                why = f"NUL characters in the column {name}"
            else:
                why = f"{control[i] / lengths[i]:.0%} of the column {name} are control characters"
            yield start + i, why
        start += len(there)


def _sums(marks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """How many bytes of each row are marked."""
    if not marks.any():
        return np.zeros(len(offsets) - 1, np.int64)
    return np.diff(np.concatenate([[0], marks.cumsum()])[offsets])


def write(cells: Any, kept: np.ndarray, values: BinaryIO, offsets: BinaryIO) -> int:
    """Write the bytes of the kept rows one after the other, and where each begins, int64; gives how many
    bytes there are. A missing text is an empty one."""
    at, start = 0, 0
    offsets.write(np.zeros(1, np.int64).data)  # numpy's tofile says nothing of a disk that is full
    for found, places, _ in pieces(cells):
        mine = kept[start : start + len(places) - 1]
        start += len(mine)
        lengths = np.diff(places)
        if not mine.all():
            found = found[np.repeat(mine, lengths)]
            lengths = lengths[mine]
        values.write(np.ascontiguousarray(found).data)
        offsets.write((at + lengths.cumsum()).data)
        at += len(found)
    return at


def equal_texts(texts: Sequence[Ragged]) -> np.ndarray:
    """Groups [N] of rows whose texts are all the same to the last byte."""
    columns = [(t.values.numpy().data, t.offsets.tolist()) for t in texts]
    digests = []
    for row in range(len(texts[0])):
        found = hashlib.blake2b(digest_size=8)
        for values, offsets in columns:
            part = values[offsets[row] : offsets[row + 1]]
            found.update(part.nbytes.to_bytes(8, "little"))
            found.update(part)
        digests.append(found.digest())
    return groups_of(digests)


class Spoken(Ragged):
    """Conversations, of which only what is said is given, a message a line."""

    def __getitem__(self, row: int) -> Tensor:
        return self.take(torch.tensor([row])).values

    def take(self, rows: Tensor) -> Ragged:
        held = super().take(rows)
        chats = (json.loads(text_of(held, i)) for i in range(len(held)))
        return ragged(["\n".join(m["content"] for m in chat) for chat in chats])


def to_read(texts: Mapping[str, Ragged], chat: bool) -> dict[str, Ragged]:
    """The texts that are read and no targets; of conversations what is said in them."""
    found = {name: texts[name] for name in (TEXT, TEXT_2) if name in texts}
    return {name: Spoken(t.values, t.offsets) for name, t in found.items()} if chat else found


def text_of(texts: Ragged, row: int, most: int | None = None) -> str:
    """One text, or its first `most` bytes."""
    found = texts[row] if most is None else texts[row][:most]
    return found.numpy().tobytes().decode("utf-8", "replace" if most is None else "ignore")


def ragged(texts: Sequence[str]) -> Ragged:
    """Texts in memory. DataError where one cannot be written as UTF-8."""
    encoded = []
    for number, text in enumerate(texts):
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError as error:
            raise DataError(
                f"{text[error.start]!r} in text {number}, half of a surrogate pair, is no character",
                expected="texts as they come out of files",
            ) from None
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in encoded])]).astype(np.int64)
    values = np.frombuffer(b"".join(encoded), np.uint8).copy()
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets))
