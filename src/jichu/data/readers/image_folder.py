"""A folder of images: see `folder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..source import Source
from .folder import Pattern, media


def recognises(data: Any) -> bool:
    """Any folder: it is the last reader asked."""
    return isinstance(data, Path) and data.is_dir()


def read(path: Path, links: bool = False, pattern: Pattern | None = None) -> Source:
    """Columns `image` and, where there are class folders, `label`. With `links` those that lead out of the
    folder are followed too; `pattern` is a regular expression whose named groups, found in the files' names, are
    columns."""
    return media(path, "image", pattern, links)
