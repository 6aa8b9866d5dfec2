"""Arrays and tensors in memory: images or rows of numbers, perhaps with labels: x, (x, y), or
{"image": x, "label": y}; sounds as {"audio": [samples, …], "rate": 16000, "label": y}."""

from __future__ import annotations

from typing import Any

import numpy as np

from jichu.core.errors import DataError

from ..source import Column, Names, Source, label_column, number_column, unusable


def recognises(data: Any) -> bool:
    """Anything array-like, a pair of them, or a dict of them."""
    if isinstance(data, dict):
        return "image" in data or "audio" in data
    return isinstance(data, (tuple, list)) or hasattr(data, "__array__")


def read(path: Any) -> Source:
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W], whole numbers being 0 to 255 and fractions 0 to 1; or
    a table of numbers [N, F], whose columns are called x0, x1, …"""
    pair = path if isinstance(path, tuple) and len(path) == 2 else (path, None)
    given = path if isinstance(path, dict) else dict(zip(("image", "label"), pair, strict=True))
    if "audio" in given:
        return _sounds(given)
    images = _array(given["image"])
    if images.ndim == 2 and images.dtype.kind in "uifb" and images.size:
        return _table(images.astype(np.float64), given.get("label"))
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim not in (3, 4) or not images.size or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            f"images of shape {images.shape}",
            expected="[N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels",
        )
    if images.dtype.kind not in "uifb":
        raise DataError(f"images of type {images.dtype}", expected="whole numbers or fractions")
    keep, quarantine = np.ones(len(images), bool), []
    if images.dtype.kind == "f":
        keep = np.isfinite(images).reshape(len(images), -1).all(1)
        if not keep.any():
            raise DataError("no image is finite", expected="images without NaN and infinity")
        quarantine = [unusable(f"array:{i}", "not finite") for i in np.flatnonzero(~keep)]
    images = _bytes(images, keep)
    columns = {"image": Column("image", images if keep.all() else images[keep])}
    if given.get("label") is not None:
        columns["label"] = _labels(given["label"], keep)
    return Source(columns, Names.numbered("array", np.flatnonzero(keep)), None, quarantine)


def _table(x: np.ndarray, y: Any) -> Source:
    columns = {f"x{i}": number_column(x[:, i]) for i in range(x.shape[1])}
    if y is not None:
        columns["label"] = _labels(y, np.ones(len(x), bool))
    return Source(columns, Names.numbered("array", len(x)))


def _sounds(given: dict[str, Any]) -> Source:
    """Samples from -1 to 1, or whole numbers, [n] or [n, channels] of each sound."""
    if not isinstance(given.get("rate"), int):
        raise DataError(f"sounds at a rate of {given.get('rate')}", expected="rate: samples a second")
    sounds = [(_array(samples), given["rate"]) for samples in given["audio"]]
    columns = {"audio": Column("audio", sounds)}
    if given.get("label") is not None:
        columns["label"] = _labels(given["label"], np.ones(len(sounds), bool))
    return Source(columns, Names.numbered("array", len(sounds)))


def _labels(given: Any, keep: np.ndarray) -> Column:
    """Fractions are numbers to predict, anything else the names or codes of classes."""
    labels = _array(given)
    if labels.shape != keep.shape:
        raise DataError(f"labels of shape {labels.shape} for {len(keep)} rows", expected=f"({len(keep)},)")
    labels = labels[keep]
    if labels.dtype.kind == "f" and (labels[np.isfinite(labels)] % 1).any():
        return number_column(labels)
    return label_column(labels.tolist())


def _array(value: Any) -> np.ndarray:
    """An array of anything array-like; of a tensor its values, wherever they are."""
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (ValueError, TypeError) as error:
        raise DataError(f"this is no array: {error}", expected="images or rows of one shape") from None


def _bytes(images: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """uint8 pixels; fractions are taken as 0 to 1."""
    if images.dtype == np.uint8 or not keep.any():
        return images
    low, high = images[keep].min(), images[keep].max()
    fractions = images.dtype.kind == "f" and high <= 1
    if low < 0 or high > 255:
        raise DataError(f"pixel values from {low} to {high}", expected="0 to 255, or fractions from 0 to 1")
    images = np.where(keep.reshape(-1, *[1] * (images.ndim - 1)), images, 0)
    return np.round(images * (255 if fractions else 1)).astype(np.uint8)
