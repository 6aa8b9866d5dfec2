"""A folder of sounds: see `folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import decode, sound
from ..source import Source
from .folder import Pattern, holds, media


def recognises(data: Any) -> bool:
    """A folder in which, or below which, there are sounds and no images."""
    return isinstance(data, Path) and data.is_dir() and holds(data, _is_sound, decode.SUFFIXES)


def _is_sound(name: str) -> bool:
    return name.lower().endswith(tuple(sound.SUFFIXES)) and not name.startswith(".")


def read(path: Path, links: bool = False, pattern: Pattern | None = None) -> Source:
    """Columns `audio` and, where there are class folders, `label`. With `links` those that lead out of the
    folder are followed too; `pattern` is a regular expression whose named groups, found in the files' names, are
    columns: (?P<speaker>[a-z]+) makes one that is called speaker."""
    return media(path, "audio", pattern, links)
