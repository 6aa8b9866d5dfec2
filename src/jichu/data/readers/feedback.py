"""A folder of `jichu serve --set keep=FOLDER` in which people told right answers: `jichu.data.corrections`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import requests
from ..source import Source


def recognises(data: Any) -> bool:
    """A folder that a server keeps, with right answers in it."""
    folder = requests.folder_of(data) if isinstance(data, Path) else None
    return folder is not None and (folder / requests.FEEDBACK).exists()


def read(path: Path, run: str | None = None) -> Source:
    """The run's own rows with their splits, and the right answers in `train`. `run` is the run's folder, by default the one
    that was served. DataError where nobody has told anything that can be used."""
    from ..corrections import corrected  # which needs torch; other readers are asked without it

    return corrected(path, run)
