"""What can be said of a row of pictures, sounds or texts without a model, as columns of numbers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset
from .media import KINDS, AnyHeader
from .sound import SoundHeader
from .source import Column
from .texts import TEXT

_AT_ONCE = 512  # rows
_COLOURS = ("red", "green", "blue")


def traits(dataset: Dataset, rows: Tensor) -> dict[str, Column]:
    """Of pictures brightness and contrast, the mean and deviation of their pixels, 0 to 255; of sounds loudness, the root
    of the mean square; of texts their length in bytes."""
    found: dict[str, np.ndarray] = {}
    if "image" in dataset.tensors:
        of = of_images(dataset.tensors["image"], rows)
        found |= {name: of[name] for name in ("brightness", "contrast")}
    if "audio" in dataset.tensors:
        found |= of_sounds(dataset.tensors["audio"], rows)
    if TEXT in dataset.texts:
        found["length"] = dataset.texts[TEXT].lengths[rows].numpy().astype(np.float64)
    return {name: Column("number", values) for name, values in found.items()}


def of_images(images: Tensor, rows: Tensor) -> dict[str, np.ndarray]:
    """Brightness and contrast of some rows of uint8 [N, C, H, W], and the mean of each colour where there are three."""
    found = {
        "brightness": _of(images, rows, lambda x: x.flatten(1).mean(1)),
        "contrast": _of(images, rows, lambda x: _deviation(x.flatten(1))),
    }
    if images.shape[1] == len(_COLOURS):
        means = _of(images, rows, lambda x: x.flatten(2).mean(2))
        found |= {name: means[:, i] for i, name in enumerate(_COLOURS)}
    return found


def of_sounds(sounds: Tensor, rows: Tensor) -> dict[str, np.ndarray]:
    """The loudness of some rows of [N, samples]."""
    return {"loudness": _of(sounds, rows, lambda x: x.flatten(1).square().mean(1).sqrt())}


def _of(column: Tensor, rows: Tensor, measure: Callable[[Tensor], Tensor]) -> np.ndarray:
    parts = [measure(column[part].float()) for part in rows.split(_AT_ONCE)]
    return torch.cat(parts).double().numpy()


def _deviation(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt()


def sizes(kind: str, headers: Sequence[AnyHeader | None]) -> dict[str, np.ndarray]:
    """Width and height of images in pixels, or the seconds of sounds, by their headers; NaN where there is none."""
    names, nothing = {
        "image": (("width", "height"), (math.nan, math.nan)),
        "audio": (("seconds",), (math.nan,)),
    }[kind]
    told = [nothing if h is None else _size(h) for h in headers]
    return dict(zip(names, np.array(told, np.float64).reshape(-1, len(names)).T, strict=True))


def _size(header: AnyHeader) -> tuple[float, ...]:
    if isinstance(header, SoundHeader):
        return (header.frames / header.rate,)
    return header.width, header.height


def header(kind: str, item: Any) -> AnyHeader | None:
    """That of an image or a sound; None where it cannot be read."""
    with contextlib.suppress(*KINDS[kind].unreadable):
        return KINDS[kind].peek(item)
    return None
