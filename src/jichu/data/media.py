"""What is decoded once, a row at a time, into a dense tensor: images and sounds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import decode, sound
from .config import DataConfig
from .decode import Header, Preprocess
from .sound import Sound, SoundHeader

DECODERS = f"{decode.DECODER}; {sound.DECODER}"
MEDIA = frozenset([*decode.SUFFIXES, *sound.SUFFIXES])  # how files of either kind end
_PEEKED = 2000  # of which the headers are read

How = Preprocess | Sound
AnyHeader = Header | SoundHeader


class Medium(NamedTuple):
    """How one kind is read: the header alone, and whole; what may be raised by that; the types of what is known."""

    peek: Callable[[Any], Any]
    decode: Callable[[Any, Any], np.ndarray]
    unreadable: tuple[type[BaseException], ...]
    suffixes: frozenset[str]
    header: type[Any]
    how: type[Any]


KINDS = {
    "image": Medium(
        decode.peek_image, decode.decode_image, decode.UNREADABLE, decode.SUFFIXES, Header, Preprocess
    ),
    "audio": Medium(
        sound.peek_sound, sound.decode_sound, sound.UNREADABLE, sound.SUFFIXES, SoundHeader, Sound
    ),
}


def headers(kind: str, items: Sequence[Any]) -> dict[int, Any]:
    """The headers of at most 2,000 items, evenly spaced, by row; what cannot be read is left out."""
    found = {}
    for i in range(0, len(items), max(1, math.ceil(len(items) / _PEEKED))):
        with contextlib.suppress(*KINDS[kind].unreadable):
            found[i] = KINDS[kind].peek(items[i])
    return found


def infer(kind: str, found: dict[int, Any], config: DataConfig, where: str = "") -> How:
    """How items become tensors, as the recipe says or their headers show. DataError where none can be read."""
    if kind == "audio":
        return sound.infer_sound(found.values(), config.rate, config.seconds, where)
    return decode.infer_image(found.values(), config.size, config.channels, config.resize, where)
