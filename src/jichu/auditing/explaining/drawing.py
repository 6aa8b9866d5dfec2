"""What places are worth, drawn: over a picture, beneath a sound, behind the words of a text."""

from __future__ import annotations

import html

import numpy as np
from PIL import Image, ImageColor
from torch import Tensor

from jichu.auditing.figures import AGAINST, FOR, picture

_SIDE = 224  # pixels of a picture, at least
_STRIP, _GAP = 48, 6
_RGB = {sign: np.array(ImageColor.getrgb(colour), float) for sign, colour in ((1, FOR), (-1, AGAINST))}
_SHARPEST = 0.99  # of the places are below what is drawn in full


def strength(worth: np.ndarray) -> np.ndarray:
    """-1 to 1: relative to all but the very largest, from the least on where nothing is zero or speaks against."""
    if not worth.size:
        return worth
    worth = worth - max(0.0, worth.min())
    size = np.abs(worth)
    top = np.quantile(size, _SHARPEST) or size.max()
    return np.clip(worth / top, -1, 1) if top else np.zeros_like(worth)


def overlay(image: Tensor, worth: np.ndarray) -> Image.Image:
    """A picture uint8 [C, H, W], and beside it in grey with colour where something [h, w] speaks for the answer, or
    against it."""
    plain = picture(image, _SIDE).convert("RGB")
    grey = np.asarray(plain.convert("L"), float)[..., None] * 0.6 + 40
    heat = Image.fromarray(strength(worth).astype(np.float32), "F").resize(
        plain.size, Image.Resampling.NEAREST
    )
    drawn = _coloured(grey, np.asarray(heat))
    return _joined([plain, Image.fromarray(drawn)], across=True)


def over_time(image: Tensor, worth: np.ndarray) -> Image.Image:
    """A spectrogram uint8 [1, mels, frames]; beneath it the same with what speaks for the answer or against it, [mels,
    frames] or [frames]; and beneath that how much each moment is worth."""
    moments = worth if worth.ndim == 1 else worth.sum(0)
    plain = picture(image, _SIDE).convert("RGB")
    coloured = overlay(image, np.atleast_2d(worth)).crop(
        (plain.width + _GAP, 0, 2 * plain.width + _GAP, plain.height)
    )
    heights = strength(moments)[(np.arange(plain.width) * len(moments)) // plain.width]
    depth = np.abs((np.arange(_STRIP) - (_STRIP - 1) / 2) / (_STRIP / 2))[:, None]
    rising = np.arange(_STRIP)[:, None] < _STRIP / 2
    filled = np.where(rising, heights, -heights) >= depth
    strip = _coloured(np.full((_STRIP, plain.width, 1), 40.0), filled * np.sign(heights)[None])
    return _joined([plain, coloured, Image.fromarray(strip)], across=False)


def _coloured(grey: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Grey [H, W, 1], 0 to 255, with the colours of -1 to 1 [H, W] on it."""
    colour = np.where(heat[..., None] > 0, _RGB[1], _RGB[-1])
    share = np.abs(heat)[..., None]
    return (grey * (1 - share) + colour * share).round().astype(np.uint8)


def _joined(parts: list[Image.Image], across: bool) -> Image.Image:
    sizes = [part.size[0 if across else 1] for part in parts]
    length = sum(sizes) + _GAP * (len(parts) - 1)
    size = (length, parts[0].height) if across else (parts[0].width, length)
    whole, at = Image.new("RGB", size, "white"), 0
    for part, long in zip(parts, sizes, strict=True):
        whole.paste(part, (at, 0) if across else (0, at))
        at += long + _GAP
    return whole


def marked(tokens: list[str], worth: np.ndarray) -> str:
    """HTML of a text whose tokens are coloured behind."""
    spans = []
    for token, share in zip(tokens, strength(worth).tolist(), strict=True):
        red, green, blue = _RGB[1 if share > 0 else -1].astype(int)
        style = f"background: rgba({red},{green},{blue},{0.75 * abs(share):.2f})"
        spans.append(f'<span style="{style}">{html.escape(token)}</span>')
    return "".join(spans)
