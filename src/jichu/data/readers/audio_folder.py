"""A folder of sounds: see `folder`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .. import decode, sound
from ..source import Source
from .folder import Pattern, media


def recognises(data: Any) -> bool:
    """A folder in which, or below which, there are sounds and no images."""
    if not isinstance(data, Path) or not data.is_dir():
        return False
    found = False
    for _, _, names in os.walk(data):
        lower = [name.lower() for name in names if not name.startswith(".")]
        if any(name.endswith(tuple(decode.SUFFIXES)) for name in lower):
            return False
        found = found or any(name.endswith(tuple(sound.SUFFIXES)) for name in lower)
    return found


def read(path: Path, links: bool = False, pattern: Pattern | None = None) -> Source:
    """Columns `audio` and, where there are class folders, `label`. With `links` those that lead out of the
    folder are followed too; `pattern` is a regular expression whose named groups, found in the files' names, are
    columns: (?P<speaker>[a-z]+) makes one that is called speaker."""
    return media(path, "audio", pattern, links)
