"""Records that are equal, and records that are nearly so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

_HASH = 8  # the perceptual hash has 8 × 8 bits
_BANDS = 8  # two hashes that differ in fewer bits than there are bands share a band
_BITS = 12  # bits in which the hashes of near duplicates may differ
_SIDE, _LIKE = 16, 0.95  # and the least correlation of what both look like at 16 × 16 pixels
_CROWD = 64  # of so many images with one band each is compared with its neighbours only
_RATIO, _RANK = 0.4, 3  # two copies are at most 0.4 as far apart as either is from its third nearest stranger
_STRANGERS = 2000  # images among which those are looked for
_CHUNK = 4096
_AT_ONCE = 2**24  # values of images looked at together


def digest(row: np.ndarray) -> bytes:
    """8 bytes that are the same for equal rows."""
    return hashlib.blake2b(row.data, digest_size=8).digest()


def groups_of(digests: list[bytes]) -> np.ndarray:
    """An integer for each digest [N], the same for equal ones."""
    return np.unique(np.frombuffer(b"".join(digests), np.int64), return_inverse=True)[1]


def exact_groups(tensor: Tensor) -> np.ndarray:
    """An integer for each row [N]; rows that are equal to the last byte share it."""
    return groups_of([digest(row) for row in tensor.numpy()])


def equal_rows(tensors: Mapping[str, Any]) -> np.ndarray:
    """Groups [N] of rows whose numbers and categories are the same; each row alone where there are none."""
    numbers, codes = (np.asarray(tensors[n]) if n in tensors else None for n in ("numbers", "categories"))
    columns = [c.view(np.uint32) for c in numbers.T] if numbers is not None else []
    return _groups(columns + ([*codes.T] if codes is not None else []), tensors)


def near_rows(tensors: Mapping[str, Tensor]) -> np.ndarray:
    """Groups [N] of rows that are equal once numbers are rounded to three digits of their spread."""
    columns = []
    for numbers in tensors["numbers"].unbind(1) if "numbers" in tensors else ():
        away = numbers.double()
        away = away - away.nanmean()
        spread = float(away.square().nanmean().sqrt())
        steps = (away / (spread if spread > 0 else 1.0) * 1000).round()
        columns.append(steps.nan_to_num(nan=2.0**40).long().numpy())
    if "categories" in tensors:
        columns += [*tensors["categories"].numpy().T]
    return _groups(columns, tensors)


def _groups(columns: list[np.ndarray], tensors: Mapping[str, Any]) -> np.ndarray:
    """Of rows with the same whole numbers, told by 64 bits mixed from all of them."""
    if not columns:
        return np.arange(len(next(iter(tensors.values()))))
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed += column.astype(np.uint64)
        # one step of splitmix64 (Steele, Lea and Flood, 2014)
        mixed += np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    groups = pa.array(mixed).dictionary_encode().indices  # sorts nothing, unlike np.unique
    return groups.to_numpy().astype(np.int64)


def near_images(
    images: Tensor, rows: np.ndarray | None = None, equal: np.ndarray | None = None
) -> np.ndarray:
    """Pairs [P, 2] of rows of uint8 [N, C, H, W] that look alike: perceptual hashes (the signs of the
    lowest frequencies, as Zauner's pHash, 2010) within 12 bits of 64, as thumbnails a correlation of 0.95
    or more, and far nearer to each other than to anything else, as two handwritten ones are not (the
    ratio of distances, Lowe, 2004). Each image is paired with one that was before it at most. Only some
    `rows` are looked at where they are given; `equal` are the groups of equal images, where known."""
    looked_at = np.arange(len(images)) if rows is None else rows
    groups = exact_groups(images) if equal is None else equal
    # equal images are looked at once, at the first of them
    _, rows, member = np.unique(groups[looked_at], return_index=True, return_inverse=True)
    order = rows.argsort()
    rows, member = rows[order], order.argsort()[member]
    bits, thumbnails = _hashes(images, looked_at[rows])
    packed = np.packbits(bits, axis=1)
    first = np.arange(len(rows))  # the earliest distinct image that each is like
    for one, other in _candidates(packed):
        differ = np.unpackbits(packed[one] ^ packed[other], axis=1).sum(1)
        close = differ <= _BITS
        one, other = one[close], other[close]
        alike = (thumbnails[one] * thumbnails[other]).sum(1) >= _LIKE
        np.minimum.at(first, one[alike], other[alike])
        np.minimum.at(first, other[alike], one[alike])
    late = np.flatnonzero(first < np.arange(len(rows)))
    pairs = np.stack([first[late], late], axis=1)
    pairs = pairs[_apart(thumbnails, pairs)] if len(pairs) else pairs
    like = np.arange(len(rows))
    like[pairs[:, 1]] = pairs[:, 0]
    first = rows[like][member]
    late = np.flatnonzero(first < np.arange(len(looked_at)))
    return looked_at[np.stack([first[late], late], axis=1)]


def _apart(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether each pair [P] of thumbnails [N, D] is much nearer than what is no copy of either."""
    strangers = thumbnails[:: max(1, len(thumbnails) // _STRANGERS)]
    rank = min(_RANK, len(strangers))
    rows, at = np.unique(pairs, return_inverse=True)
    nearest = []
    for part in np.array_split(rows, max(1, len(rows) // _CHUNK)):
        like = thumbnails[part] @ strangers.T
        like[like >= _LIKE] = -1  # itself and its copies
        nearest.append(np.partition(like, -rank, axis=1)[:, -rank])
    stranger = np.concatenate(nearest)[at.reshape(pairs.shape)].max(1)
    own = (thumbnails[pairs[:, 0]] * thumbnails[pairs[:, 1]]).sum(1)
    # the squared distance of two unit vectors is 2 - 2 × their product
    return 1 - own <= _RATIO**2 * (1 - stranger)


def _hashes(images: Tensor, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some rows of images hashes [N, 64] of 0 and 1, and thumbnails [N, 256] of zero mean and length 1."""
    # the cosine transform of 32 pixels, its 8 lowest frequencies without the mean
    at = torch.arange(32) + 0.5
    cosines = torch.cos(torch.pi / 32 * torch.arange(1, _HASH + 1)[:, None] * at)
    bits, thumbnails = [], []
    for part in torch.from_numpy(rows).split(max(1, min(_CHUNK, _AT_ONCE // images[0].numel()))):
        grey = images[part].float().mean(1, keepdim=True)
        large = F.interpolate(grey, (32, 32), mode="bilinear", antialias=True)[:, 0]
        waves = (cosines @ large @ cosines.T).flatten(1)
        bits.append(waves > waves.median(1, keepdim=True).values)
        small = F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True).flatten(1)
        small = small - small.mean(1, keepdim=True)
        thumbnails.append(F.normalize(small, dim=1))  # of a blank image zero: like no other
    return torch.cat(bits).numpy(), torch.cat(thumbnails).numpy()


def _candidates(packed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows whose hashes [N, 8] of bytes share a byte in the same place."""
    for band in range(_BANDS):
        # ordered by the band, and within it by the rest, so that neighbours are alike
        order = np.lexsort([*(packed[:, i] for i in range(_BANDS) if i != band), packed[:, band]])
        key = packed[order, band]
        for step in range(1, min(_CROWD, len(order))):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            yield order[step:][same], order[:-step][same]
