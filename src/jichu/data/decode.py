"""One image, from a file, bytes or an array, to uint8 [C, size, size]."""

from __future__ import annotations

import io
import math
import os
import statistics
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from jichu.core.errors import DataError

SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
# Theirs, and no others: some of those that Pillow opens hold other images than they say, or are programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# What decoding raises for what is no image: Pillow's readers let through whatever a damaged file leads to
# (warnings, where these are made errors).
UNREADABLE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip
DECODER = f"pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}"  # another may round otherwise
_ORIENTATION = ExifTags.Base.Orientation
_RESAMPLE = Image.Resampling.BILINEAR
_SMALLEST, _LARGEST = 8, 64  # the range within which a size is inferred


class Preprocess(NamedTuple):
    """How an image becomes a tensor; travels with a model so that it is served as it was trained."""

    size: int
    channels: int
    resize: str  # crop (shorter side to size, middle kept), pad (longer side to size), stretch

    @property
    def kind(self) -> str:
        """The column that it makes."""
        return "image"

    @property
    def dtype(self) -> str:
        """Of its tensor."""
        return "uint8"

    @property
    def shape(self) -> list[int]:
        """Of one row's tensor."""
        return [self.channels, self.size, self.size]

    def __str__(self) -> str:
        return f"images of {self.size}×{self.size} pixels, {self.channels} channel{'s' * (self.channels > 1)}"


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
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"none of {', '.join(FORMATS)}") from None


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
        with Image.open(_file(item), formats=FORMATS) as file:
            return Header(*file.size, file.mode, file.format, Path(item).stat().st_size)
    image = open_image(item)
    return Header(*image.size, image.mode, image.format, len(item) if isinstance(item, bytes) else None)


def decode_image(item: Any, to: Preprocess) -> np.ndarray:
    """uint8 [C, size, size]. Raises OSError or ValueError for what cannot be decoded."""
    if isinstance(item, (str, Path)):
        item = _file(item).read_bytes()
    if isinstance(item, (bytes, bytearray)):
        pixels = _plain_jpeg(item, to)
    else:
        pixels = item if isinstance(item, np.ndarray) and item.dtype == np.uint8 else None
    wanted = (to.size, to.size, to.channels)
    if pixels is None or (pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)) != wanted:
        image = _with_pillow(item if pixels is None else pixels, to)
        pixels = np.asarray(_square(image, to), np.uint8)
    return np.ascontiguousarray(pixels.reshape(wanted).transpose(2, 0, 1))


def _plain_jpeg(encoded: bytes | bytearray, to: Preprocess) -> np.ndarray | None:
    """What Pillow would make of a JPEG, [H, W, C], several times as fast; None for what is left to Pillow:
    other formats, CMYK, and whatever is damaged, so that it is Pillow that says why."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
        if space not in ("Gray", "YCbCr") or width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
            return None
        # half, quarter or eighth the detail where that is enough, as Pillow's draft
        part = next(n for n in (8, 4, 2, 1) if n == 1 or n * to.size <= min(width, height))
        least_height, least_width = -(-height // part), -(-width // part)
        wanted = "RGB" if to.channels == 3 else "GRAY"
        pixels = simplejpeg.decode_jpeg(encoded, wanted, min_height=least_height, min_width=least_width)
    except ValueError:
        return None
    if b"Exif\0\0" in encoded or b"tiff:Orientation" in encoded:
        image = open_image(pixels)
        image.getexif()[_ORIENTATION] = Image.open(io.BytesIO(encoded)).getexif().get(_ORIENTATION, 1)
        pixels = np.asarray(ImageOps.exif_transpose(image))
    return pixels


def _with_pillow(item: Any, to: Preprocess) -> Image.Image:
    opened: Any = open_image(item)
    mode = "RGB" if to.channels == 3 else "L"
    if opened.format in ("JPEG", "MPO"):
        opened.draft(mode, (to.size, to.size))  # lets the decoder skip detail we would throw away
    image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def _square(image: Image.Image, to: Preprocess) -> Image.Image:
    size = (to.size, to.size)
    if image.size == size:
        return image
    if to.resize == "crop":
        return ImageOps.fit(image, size, _RESAMPLE)
    if to.resize == "pad":
        return ImageOps.pad(image, size, _RESAMPLE)
    return image.resize(size, _RESAMPLE)


def infer_image(
    found: Iterable[Header], size: int | str, channels: int | str, resize: str, where: str = ""
) -> Preprocess:
    """Fill in `auto` from the images' headers: the median shorter side, kept between 8 and 64, and
    three channels if any image can hold colour."""
    found = list(found)
    if not found and not (isinstance(size, int) and isinstance(channels, int)):
        raise DataError(
            "none of the images can be read",
            where=where,
            expected=f"at least one image, {', '.join(FORMATS)}",
        )
    median = int(statistics.median([min(h.width, h.height) for h in found] or [_SMALLEST]))
    return Preprocess(
        size if isinstance(size, int) else max(_SMALLEST, min(_LARGEST, median)),
        channels if isinstance(channels, int) else 3 if any(h.colour for h in found) else 1,
        resize,
    )
