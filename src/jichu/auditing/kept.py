"""What an audit has found so far, kept until it is whole: one that is interrupted goes on where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jichu.core.errors import DataError
from jichu.core.files import dumps, fingerprint, read_json, remember
from jichu.core.ranks import gather_objects, rank


class Kept:
    """Findings, each a JSON file in a folder that is named by what it was found on, `of`: of anything else it is not taken
    up. Without a folder nothing is kept."""

    def __init__(self, folder: Path | None = None, *of: object):
        self._folder, self._of = folder, of

    def of(self, *what: object) -> Kept:
        """Findings on something narrower."""
        return Kept(self._folder, *self._of, *what)

    def __call__(self, find: Callable[[], Any], *what: object) -> Any:
        """What `find` gives, as JSON has it, or gave before."""
        if self._folder is None:
            return _plain(find())
        path = self._folder / f"{fingerprint(*self._of, *what)}.json"
        if known := gather_objects(_read(path))[0]:  # as the first process sees it
            return known["found"]
        found = _plain(find())
        if rank() == 0:
            remember(path, {"found": found})
        return found


def _plain(found: Any) -> Any:
    """The same whether it was kept or not."""
    return json.loads(dumps(found))


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(DataError):  # there is none, or it is damaged and found once more
        return read_json(path, ("found",))
    return {}
