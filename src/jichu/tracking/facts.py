"""What one run folder says of itself, read without trust in what it holds."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from jichu.core.errors import DataError
from jichu.core.glance import ending, glance
from jichu.core.lock import holder
from jichu.core.places import Places

State = Literal["running", "finished", "failed", "interrupted", "damaged"]
STATES: tuple[State, ...] = get_args(State)
Interval = dict[str, float | None]

MOST = 2**24  # bytes of a file that is read whole
_LAST = 2**14  # bytes in which the last logged row is looked for
_LONGEST = 300  # characters of a name or a reason
_SHOWN = 50  # figures of a headline
_MARKS = {
    "recipe.yaml",
    "environment.json",
    "metrics.jsonl",
    "summary.json",
    "checkpoints",
}  # of a run folder
TAG = re.compile(r"[^\W_][\w.:/-]{0,63}")


@dataclass(frozen=True)
class Facts:
    """Of a run. `headline` holds figures with their intervals, `latest` those of the last logged row; `started` is in seconds
    since 1970, `seconds` how long it took, or None where it still runs."""

    path: Path
    state: State
    why: str = ""
    stage: str = ""
    step: int | None = None
    headline: dict[str, Interval] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    started: float | None = None
    seconds: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.name

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "state": self.state, "why": self.why, "stage": self.stage, "step": self.step,
            "headline": self.headline, "latest": self.latest, "started": self.started, "seconds": self.lasted,
            "tags": list(self.tags),
        }  # fmt: skip

    @property
    def lasted(self) -> float | None:
        """Seconds, until now where it still runs."""
        if self.state == "running" and self.started is not None:
            return time.time() - self.started
        return self.seconds

    def value(self, name: str) -> float | None:
        """A figure of the headline, or of the last row."""
        return self.headline[name].get("value") if name in self.headline else self.latest.get(name)


def look(path: Path) -> Facts | None:
    """What a folder says; None where it is gone, or no run folder. What cannot be read is told and is no error."""
    try:
        names = set(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # there can be no such folder
            return None
        return Facts(path, "damaged", error.strerror or "it cannot be read")
    if not names & _MARKS:
        return None
    place, found = Places(path), {}
    held = holder(path) if "lock" in names else None
    try:
        found = _read(place, names)
    except (DataError, OSError) as error:
        told = f"{error.where}: {error.what}" if isinstance(error, DataError) else str(error)
        if not path.is_dir():  # gone while it was read
            return None
        return Facts(path, "running" if held else "damaged", told.replace(f"{path}{os.sep}", "")[:_LONGEST])
    if held is not None:
        return Facts(path, **{**found, "state": "running", "why": "", "seconds": None})
    return Facts(path, **found)


def _read(place: Places, names: set[str]) -> dict[str, Any]:
    if "recipe.yaml" not in names:
        raise DataError("missing", where=place.recipe)
    about = os.lstat(place.recipe)
    if not stat.S_ISREG(about.st_mode):
        raise DataError("damaged: no plain file", where=place.recipe)
    summary = read_object(place.summary) if "summary.json" in names else {}
    stages = [s for s in _list(summary.get("stages")) if isinstance(s, dict)]
    found: dict[str, Any] = {
        "state": "finished" if "report.html" in names and summary else "interrupted",
        "stage": _text(stages[-1].get("name")) if stages else "",
        "headline": intervals(summary.get("headline")),
        "started": about.st_mtime,
        "tags": read_tags(place) if "tags.json" in names else (),
        "seconds": finite(summary.get("seconds")),
    }
    if found["state"] == "finished" and found["headline"]:
        return found
    last = last_row(place.metrics) if "metrics.jsonl" in names else {}
    step = last.get("step")
    figures = {_text(name): finite(value) for name, value in list(last.items())[:_SHOWN] if name != "step"}
    found["latest"] = {name: value for name, value in figures.items() if value is not None}
    found |= {"step": step if isinstance(step, int) else None}
    if found["state"] != "finished":
        found["stage"] = _text(last.get("stage")) or found["stage"]
        found["seconds"] = max(0.0, _last_sign(place, names) - about.st_mtime)
        ended = read_object(place.ended) if "ended.json" in names else {}
        found["state"] = "failed" if ended.get("state") == "failed" else "interrupted"
        found["why"] = _text(ended.get("why"))
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; DataError where it is damaged."""
    try:
        found = json.loads(glance(path, MOST) or b"{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"damaged: {error}", where=path) from None
    if not isinstance(found, dict):
        raise DataError("damaged: no JSON object", where=path)
    return found


def last_row(path: Path) -> dict[str, Any]:
    """The last whole row of a JSON-lines file that is being written; {} where there is none."""
    for line in reversed(ending(path, _LAST).split(b"\n")[:-1]):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return row
    return {}


def read_tags(place: Places) -> tuple[str, ...]:
    """Sorted; those that are none are left out."""
    found = _list(read_object(place.tags).get("tags"))
    return tuple(sorted({tag for tag in found if isinstance(tag, str) and TAG.fullmatch(tag)}))


def intervals(figures: Any) -> dict[str, Interval]:
    """Those of a summary that are figures: a value and its ends, null where that is no number."""
    told = figures.items() if isinstance(figures, dict) else ()
    return {
        _text(name): {end: finite(figure.get(end)) for end in ("value", "low", "high")}
        for name, figure in list(told)[:_SHOWN] if isinstance(figure, dict)
    }  # fmt: skip


def finite(value: Any) -> float | None:
    """A number as it is; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1e300 and math.isfinite(value) else None


def _last_sign(place: Places, names: set[str]) -> float:
    files = [place.metrics, place.timing, place.summary, place.ended, place.recipe]
    return max(os.lstat(file).st_mtime for file in files if file.name in names)


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
