"""One image, from a file, bytes or an array, to uint8 [C, size, size]."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What decoding raises for what is no image: Pillow's readers let through whatever a damaged file leads to
# (warnings, where these are made errors).
UNREADABLE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip
_RESAMPLE = Image.Resampling.BILINEAR


class Preprocess(NamedTuple):
    """How an image becomes a tensor; travels with a model so that it is served as it was trained."""

    size: int
    channels: int
    resize: str  # crop (shorter side to size, middle kept), pad (longer side to size), stretch


def open_image(item: Any) -> Image.Image:
    """An image from a path, encoded bytes or an array [H, W] or [H, W, C] of uint8. OSError or
    ValueError where it is none."""
    if isinstance(item, Image.Image):
        return item
    if isinstance(item, np.ndarray):
        return Image.fromarray(item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item)
    if item is None:
        raise ValueError("no image in this row")
    encoded = item if isinstance(item, (bytes, bytearray)) else _file(item).read_bytes()
    if not encoded:
        raise ValueError("it is empty")
    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError:
        raise ValueError("not an image in a format Pillow opens") from None
    if image.format == "EPS":
        raise ValueError("PostScript, which is a program, and would be run")
    return image


def _file(path: str | Path) -> Path:
    if not os.path.isfile(path):  # also what could be read without end, such as a device
        raise ValueError(f"there is no file {path}")
    return Path(path)


class Header(NamedTuple):
    """What an image says of itself before it is decoded; `nbytes` is None for one in memory."""

    width: int
    height: int
    mode: str
    format: str | None
    nbytes: int | None

    @property
    def colour(self) -> bool:
        """Whether the format can hold colour (a grey picture saved as RGB counts as colour)."""
        return self.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "F")


def peek_image(item: Any) -> Header:
    """The header; of a file nothing more is read. Raises OSError or ValueError where it is no image."""
    if isinstance(item, (str, Path)):
        with Image.open(_file(item)) as file:
            return Header(*file.size, file.mode, file.format, Path(item).stat().st_size)
    image = open_image(item)
    return Header(*image.size, image.mode, image.format, len(item) if isinstance(item, bytes) else None)


def decode_image(item: Any, to: Preprocess) -> np.ndarray:
    """uint8 [C, size, size]. Raises OSError or ValueError for what cannot be decoded."""
    opened: Any = open_image(item)
    mode = "RGB" if to.channels == 3 else "L"
    if opened.format == "JPEG":
        opened.draft(mode, (to.size, to.size))  # lets the decoder skip detail we would throw away
    image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = _square(image.convert(mode), to)
    array = np.asarray(image, np.uint8)
    return array[None] if to.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _square(image: Image.Image, to: Preprocess) -> Image.Image:
    size = (to.size, to.size)
    if image.size == size:
        return image
    if to.resize == "crop":
        return ImageOps.fit(image, size, _RESAMPLE)
    if to.resize == "pad":
        return ImageOps.pad(image, size, _RESAMPLE)
    return image.resize(size, _RESAMPLE)
