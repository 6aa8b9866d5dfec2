"""Records that are equal, and records that are nearly so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_HASH = 8  # the perceptual hash has 8 × 8 bits
_BANDS = 8  # two hashes that differ in fewer bits than there are bands share a band
_BITS = 6  # bits in which the hashes of near duplicates may differ
_SIDE, _LIKE = 16, 0.98  # and the least correlation of what both look like at 16 × 16 pixels
_CROWD = 64  # of so many images with one band each is compared with its neighbours only
_CHUNK = 4096


def exact_groups(tensor: Tensor) -> np.ndarray:
    """An integer for each row [N]; rows that are equal to the last byte share it."""
    array = tensor.numpy()
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in array]
    return np.unique(np.frombuffer(b"".join(digests), np.int64), return_inverse=True)[1]


def near_rows(numbers: Tensor | None, categories: Tensor | None) -> np.ndarray:
    """Groups [N] of rows that are equal once numbers are rounded to three digits of their spread."""
    parts = []
    if numbers is not None:
        x = numbers.double()
        spread = (x - x.nanmean(0)).square().nanmean(0).sqrt().nan_to_num()
        steps = (x / torch.where(spread > 0, spread, 1.0) * 1000).numpy()
        parts.append(np.where(np.isnan(steps), -(2**40), np.round(steps)).astype(np.int64))
    if categories is not None:
        parts.append(categories.numpy())
    return exact_groups(torch.from_numpy(np.concatenate(parts, axis=1)))


def near_images(images: Tensor) -> np.ndarray:
    """Pairs [P, 2] of rows of uint8 [N, C, H, W] that look alike: perceptual hashes (the signs of the
    lowest frequencies, as Zauner's pHash, 2010) within 6 bits of 64, and as thumbnails a correlation of
    0.98 or more. Each image is paired with one that was before it at most."""
    # equal images are looked at once
    _, rows, member = np.unique(exact_groups(images), return_index=True, return_inverse=True)
    bits, thumbnails = _hashes(images[torch.from_numpy(rows)])
    packed = np.packbits(bits, axis=1)
    first = rows.copy()  # the earliest image that each is like
    for one, other in _candidates(packed):
        differ = np.unpackbits(packed[one] ^ packed[other], axis=1).sum(1)
        close = differ <= _BITS
        one, other = one[close], other[close]
        alike = (thumbnails[one] * thumbnails[other]).sum(1) >= _LIKE
        np.minimum.at(first, one[alike], rows[other[alike]])
        np.minimum.at(first, other[alike], rows[one[alike]])
    first = first[member]
    late = np.flatnonzero(first < np.arange(len(images)))
    return np.stack([first[late], late], axis=1)


def _hashes(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Hashes [N, 64] of 0 and 1; thumbnails [N, 256] of zero mean and length 1."""
    # the cosine transform of 32 pixels, its 8 lowest frequencies without the mean
    at = torch.arange(32) + 0.5
    cosines = torch.cos(torch.pi / 32 * torch.arange(1, _HASH + 1)[:, None] * at)
    bits, thumbnails = [], []
    for part in images.split(_CHUNK):
        grey = part.float().mean(1, keepdim=True)
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
