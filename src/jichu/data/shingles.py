"""What texts have in common: runs of words as 64-bit numbers, near duplicates by MinHash, shared passages.

A word is a run of letters and digits, of any case, or one character where words are written without blanks
between (Chinese, Japanese, Thai). Everything is arrays over many texts at once; nothing is kept but numbers.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from jichu.core.files import cache_folder, writing
from jichu.core.progress import task

from . import language
from .ragged import Ragged

_CHARACTERS = 0x30000  # beyond it there is nothing but marks
_ALONE = [language.NAMES.index(name) for name in ("Han", "Kana", "Thai")]
_BYTES = 2**21  # of texts that are looked at together
_BANDS, _ROWS = 20, 5  # of MinHash: at a Jaccard index of 0.8 one pair in 2,500 is missed
_CROWD = 16  # of texts that share a band, each is compared with so many of its neighbours
_PAIRS = 2**22  # runs of words compared together
_LESS = 0.5  # share of words of one character from which a text is one without words
_C1, _C2, _GOLDEN = (np.uint64(c) for c in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))


class Shingles(NamedTuple):
    """The runs of words of some texts, one after the other: `hashes` uint64 [total], `offsets` int64 [n + 1]."""

    hashes: np.ndarray
    offsets: np.ndarray


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea and Flood, 2014)."""
    x = x + _GOLDEN
    x ^= x >> np.uint64(30)
    x *= _C1
    x ^= x >> np.uint64(27)
    x *= _C2
    return x ^ (x >> np.uint64(31))


@functools.cache
def _characters() -> tuple[np.ndarray, np.ndarray]:
    """Of each character: 0 where it is in no word, 1 in one, 2 where it is one by itself; and its number
    in small letters."""
    kind = np.zeros(_CHARACTERS, np.uint8)
    small = np.arange(_CHARACTERS, dtype=np.uint32)
    for i in range(_CHARACTERS):
        character = chr(i)
        if character.isalnum():
            kind[i] = 1
            lower = character.lower()
            small[i] = ord(lower) if len(lower) == 1 else i
    # marks that belong to the letter before them
    kind[0x300:0x370] = 1
    kind[(kind > 0) & np.isin(language.table(), _ALONE)] = 2
    return kind, small


def words(texts: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of some texts uint8, in their order: uint64 hashes [W], whether each is one character of a
    script without blanks [W], and where each text's begin, int64 [n + 1]."""
    kinds, small = _characters()
    raw = texts.values.numpy()
    codes = np.frombuffer(raw.tobytes().decode("utf-8", "replace").encode("utf-32-le"), np.uint32)
    # characters before each byte: those that do not go on with one
    starts = np.concatenate([[0], ((raw & 0xC0) != 0x80).cumsum()])[
        texts.offsets.numpy() - int(texts.offsets[0])
    ]
    codes = np.where(codes < _CHARACTERS, codes, 0)
    kind = kinds[codes]
    first = np.zeros(len(codes) + 1, bool)
    first[starts] = True  # no word goes on into the next text
    before = np.concatenate([[0], kind[:-1]])[: len(kind)]
    begins = (kind == 2) | ((kind == 1) & ((before != 1) | first[:-1]))
    inside = kind > 0
    heads = begins[inside].nonzero()[0]
    number = begins[inside].cumsum() - 1
    letters = small[codes[inside]].astype(np.uint64)
    place = (np.arange(len(letters)) - heads[number]).astype(np.uint64)
    mixed = _mix(letters + (place << np.uint64(32)))
    hashes = np.add.reduceat(mixed, heads) if len(heads) else mixed[:0]
    at = begins.nonzero()[0]
    return _mix(hashes), kind[at] == 2, np.searchsorted(at, starts)


def runs(texts: Ragged, length: int, alone: int | None = None, *, whole: bool = False) -> Shingles:
    """The runs of `length` words of each text; of `alone` words in a text that is mostly of one-character
    words. A text of fewer words is one run, or none where only `whole` ones count."""
    hashes, single, offsets = words(texts)
    counts = np.diff(offsets)
    n = np.full(len(counts), length)
    if alone is not None:
        ones = np.concatenate([[0], single.cumsum()])
        n = np.where(np.diff(ones[offsets]) > _LESS * counts, alone, length)
    many = np.maximum(counts - n + 1, np.minimum(counts, 0 if whole else 1)).clip(min=0)
    row = np.repeat(np.arange(len(counts)), many)
    begin = np.arange(len(row)) - np.repeat(many.cumsum() - many, many) + offsets[row]
    end = np.minimum(begin + n[row], offsets[row + 1])
    found = np.zeros(len(row), np.uint64)
    steps = np.arange(n.max(initial=0), dtype=np.uint64) * _GOLDEN  # a word counts by its place in the run
    for i in range(len(steps)):
        at = begin + i
        inside = at < end
        found[inside] += _mix(hashes[at[inside]] + steps[i])
    return Shingles(found, np.concatenate([[0], many.cumsum()]))


def chunks(texts: Ragged, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in parts whose texts have some 2 MiB together."""
    sizes = texts.lengths.numpy()[rows].cumsum()
    bounds = np.arange(_BYTES, sizes[-1] + _BYTES if len(rows) else 0, _BYTES)
    ends = np.searchsorted(sizes, bounds) + 1
    start = 0
    for end in np.unique(np.minimum(ends, len(rows))).tolist():
        yield rows[start:end]
        start = end


def taken(texts: Ragged, rows: np.ndarray) -> Ragged:
    """Some texts, one after the other in memory."""
    return texts.take(torch.from_numpy(np.ascontiguousarray(rows)))


# --- near duplicates


def near_texts(texts: Ragged, rows: np.ndarray, threshold: float = 0.8, length: int = 5) -> np.ndarray:
    """Pairs [P, 2] of some rows, earlier in `rows` and later, whose runs of words have a Jaccard index of
    `threshold` or more. Candidates are those whose MinHash signatures agree in one band of several (Broder,
    1997; Leskovec, Rajaraman and Ullman, 2014); of these the index itself is computed."""
    pairs = [np.empty((0, 2), np.int64)]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    size = _BANDS * len(rows) * 8
    with tempfile.TemporaryFile(dir=folder) as file:
        if len(rows) > 1:
            if hasattr(os, "posix_fallocate"):  # else a full disk ends the process when it is written to
                with writing(folder, size):
                    os.posix_fallocate(file.fileno(), 0, size)
            bands = np.memmap(file, np.uint64, "w+", shape=(_BANDS, len(rows)))
            _fill(bands, texts, rows, length)
            candidates = _candidates(bands)
            pairs += _verified(texts, rows, candidates, threshold, length)
    found = np.concatenate(pairs)
    return rows[found[np.lexsort([found[:, 0], found[:, 1]])]]


def _fill(bands: np.ndarray, texts: Ragged, rows: np.ndarray, length: int) -> None:
    """The signature of each text: the least of its runs under each of 100 hashes, five of them a band. A
    text without words gets a number of its own."""
    seeds = _mix(np.arange(_BANDS * _ROWS, dtype=np.uint64)).astype(np.uint32) | np.uint32(1)
    start = 0
    with task("compare", len(rows)) as shown:
        for part in chunks(texts, rows):
            found = runs(taken(texts, part), length)
            there = np.diff(found.offsets) > 0
            heads = found.offsets[:-1][there]
            hashes = found.hashes.astype(np.uint32)  # of which processors multiply several at once
            for band in range(_BANDS):
                key = np.zeros(len(heads), np.uint64)
                for seed in seeds[band * _ROWS : (band + 1) * _ROWS]:
                    least = np.minimum.reduceat(hashes * seed, heads) if len(heads) else key
                    key = _mix(key ^ least.astype(np.uint64))
                column = _mix(np.arange(start, start + len(part), dtype=np.uint64) ^ _C2)
                column[there] = key
                bands[band, start : start + len(part)] = column
            start += len(part)
            shown.advance(len(part))


def _candidates(bands: np.ndarray) -> np.ndarray:
    """Pairs [P, 2] of places that share a band, the earlier first."""
    size = np.int64(bands.shape[1])
    found = [np.empty(0, np.int64)]
    for band in bands:
        order = np.argsort(band, kind="stable")
        key = band[order]
        head = np.concatenate([[True], key[1:] != key[:-1]])
        first = order[np.maximum.accumulate(np.where(head, np.arange(len(key)), 0))]
        found.append(first[~head] * size + order[~head])  # with the first of them, and with neighbours
        for step in range(1, min(_CROWD, len(order))):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            found.append(order[:-step][same] * size + order[step:][same])
        found = [np.unique(np.concatenate(found))]
    return np.stack([found[0] // size, found[0] % size], axis=1)


def _verified(
    texts: Ragged, rows: np.ndarray, pairs: np.ndarray, threshold: float, length: int
) -> Iterator[np.ndarray]:
    """Those of the pairs of places whose texts are so much alike."""
    sizes = texts.lengths.numpy()
    cost = (sizes[rows[pairs]].sum(1) if len(pairs) else np.empty(0, np.int64)).cumsum()
    for part in (
        np.split(pairs, np.searchsorted(cost, np.arange(_PAIRS, cost[-1], _PAIRS))) if len(pairs) else ()
    ):
        if len(part):
            used, at = np.unique(part, return_inverse=True)
            alike = jaccard(runs(taken(texts, rows[used]), length), at.reshape(part.shape))
            yield part[alike >= threshold]


def jaccard(found: Shingles, pairs: np.ndarray) -> np.ndarray:
    """The share [P] that two texts have in common of the runs that either has."""
    row = np.repeat(np.arange(len(found.offsets) - 1), np.diff(found.offsets))
    hashes, row = _once(found.hashes, row)
    starts = np.searchsorted(row, np.arange(len(found.offsets)))
    both = np.diff(starts)[pairs]
    number = np.repeat(np.arange(len(pairs)), both.sum(1))
    sizes, first = both.reshape(-1), starts[pairs.reshape(-1)]
    places = np.arange(sizes.sum()) + np.repeat(first - (sizes.cumsum() - sizes), sizes)
    either = np.bincount(_once(hashes[places], number)[1], minlength=len(pairs))
    return (both.sum(1) - either) / np.maximum(either, 1)


def _once(hashes: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each hash of each number once, in their order."""
    order = np.lexsort([hashes, number])
    hashes, number = hashes[order], number[order]
    new = np.ones(len(order), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (number[1:] != number[:-1])
    return hashes[new], number[new]


# --- passages


def shared_passages(
    texts: Mapping[str, Ragged], rows: np.ndarray, held_out: np.ndarray, length: int = 13, alone: int = 30
) -> np.ndarray:
    """Which of the rows share a passage with which held-out one, [P, 2], each with one at most: a run of
    `length` words, or `alone` characters where words are not told apart."""
    found = list(_passages(texts, held_out, length, alone))
    hashes = np.concatenate([np.empty(0, np.uint64), *(h for h, _ in found)])
    owner = np.concatenate([np.empty(0, np.int64), *(row for _, row in found)])
    hashes, first = np.unique(hashes, return_index=True)
    pairs = [np.empty((0, 2), np.int64)]
    for mine, row in _passages(texts, rows, length, alone) if len(hashes) else ():
        at = np.searchsorted(hashes, mine).clip(max=len(hashes) - 1)
        hit = hashes[at] == mine
        pairs.append(np.stack([row[hit], owner[first[at[hit]]]], axis=1))
    told = np.concatenate(pairs)
    return told[np.unique(told[:, 0], return_index=True)[1]]


def _passages(
    texts: Mapping[str, Ragged], rows: np.ndarray, length: int, alone: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes of runs [n], and the row of each."""
    for column in texts.values():
        for part in chunks(column, rows):
            found = runs(taken(column, part), length, alone, whole=True)
            yield found.hashes, np.repeat(part, np.diff(found.offsets))
