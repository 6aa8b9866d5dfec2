"""What of a folder of runs can be removed without a loss, and its removal."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jichu.core.errors import JichuError
from jichu.core.files import aside
from jichu.core.glance import glance
from jichu.core.lock import alone
from jichu.core.places import Places

from .facts import MOST, Facts, look
from .runs import Runs, size

_VALUE = re.compile(r"^[ \t-]*(?:([\w.]+): )?(\S.*?)[ \t\r]*$", re.MULTILINE)  # of a recipe as it is written
_ORIGINS = ("from", "teacher", "weights")


@dataclass(frozen=True)
class Removal:
    """Something that may go: the checkpoints of a finished run, or all of one that failed before it had any."""

    run: Path
    path: Path
    why: str
    bytes: int


def removable(runs: Runs, days: float = 7.0) -> list[Removal]:
    """Checkpoints of finished runs, which are there to go on with; and runs that failed or never began, have nothing to go
    on with, are older than `days` and hold nothing but what a run writes. Nothing of a run that is running, tagged, damaged
    or a link, nor of one that another was made from."""
    found = runs.all()
    waiting = [r for run in found if (r := _proposed(run, days)) is not None]
    if not waiting:
        return []
    needed = _origins(found)
    return sorted((r for r in waiting if r.run.name not in needed), key=lambda removal: removal.path)


def _proposed(run: Facts, days: float) -> Removal | None:
    place = Places(run.path)
    if run.tags or run.path.is_symlink():
        return None
    if run.state == "finished":
        return _of(run.path, place.checkpoints, "checkpoints of a finished run")
    old = run.started is not None and run.started < time.time() - days * 86400
    if run.state in ("failed", "interrupted") and old and _has_nothing(place):
        return _of(run.path, run.path, f"{run.state}, with nothing to go on with")
    return None


def _has_nothing(place: Places) -> bool:
    """To go on with, and nothing that is not a run's: other folders may have a recipe.yaml too, or runs beneath it."""
    found = set(os.listdir(place.path))
    return place.environment.name in found <= Places.names() - {place.checkpoints.name, place.summary.name}


def _of(run: Path, path: Path, why: str) -> Removal | None:
    return Removal(run, path, why, size(path)) if path.is_dir() and not path.is_symlink() else None


def _origins(runs: Sequence[Facts]) -> set[str]:
    """The names of the folders that recipes tell they start from; rather one too many than one too few."""
    return {name for run in runs for name in _named(run.path) if name != run.name}


def _named(path: Path) -> Iterator[str]:
    try:
        text = (glance(Places(path).recipe, MOST) or b"").decode("utf-8", "replace")
    except JichuError:
        return
    for key, value in _VALUE.findall(text):
        if key in _ORIGINS or "/" in value:
            yield from Path(value.strip("'\"")).parts


def remove(removals: Sequence[Removal], runs: Runs, days: float = 7.0) -> list[Removal]:
    """Remove what was proposed and still may go; gives what went."""
    still = {removal.path for removal in removable(runs, days)}
    return [removal for removal in removals if removal.path in still and _remove(removal)]


def _remove(removal: Removal) -> bool:
    """Under the run's lock, so that nobody goes on with it meanwhile; moved aside first, so that it is gone at once."""
    run = removal.run
    try:
        with aside(run) as bin_, alone(run) as lock:
            facts = look(run)
            if facts is None or facts.tags or (removal.path == run and not _has_nothing(Places(run))):
                return False
            os.rename(removal.path, bin_ / removal.path.name)
            if removal.path == run:
                lock.path = bin_ / run.name / lock.path.name
    except (JichuError, OSError):
        return False
    return True
