"""The logged rows of a run as lines to draw: what is new since the last time, and no more points than can be seen."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from jichu.core.glance import plain

from .facts import finite

POINTS = 1000  # of a line
_PART = 2**24  # bytes that are read at a time
_LINES = 200  # of a run, its stages taken together
_NAME = 200  # characters

Line = tuple[list[int], list[float]]  # steps and values


def curves(path: Path, after: str = "") -> dict[str, Any]:
    """The numbers of a JSON-lines file that is being written: {"at", "anew", "more", "damaged", "stages": {stage: {name:
    [steps, values]}}}. `after` is the `at` of an earlier answer, whose rows are left out; `anew` where the file is another
    by now, and everything is told again; `more` where it goes on. Rows that are none are counted as `damaged`; half a line
    at the end waits for its other half."""
    try:
        with plain(path) as handle:
            about = os.fstat(handle)
            start = _place(after, about)
            data = os.pread(handle, _PART, start)
    except FileNotFoundError:
        return {"at": "", "anew": bool(after), "more": False, "damaged": 0, "stages": {}}
    data = data[: data.rfind(b"\n") + 1]
    lines, damaged = _lines(data)
    end = start + len(data)
    return {
        "at": f"{about.st_ino:x}-{end}", "anew": bool(after) and not start, "more": bool(data) and start + _PART < about.st_size,
        "damaged": damaged,
        "stages": {stage: {n: thinned(*line) for n, line in told.items()} for stage, told in lines.items()},
    }  # fmt: skip


def _place(after: str, about: os.stat_result) -> int:
    """Where to go on: nowhere but in the file that it was, which has not become shorter."""
    file, _, offset = after.partition("-")
    known = file == f"{about.st_ino:x}" and offset.isdecimal() and len(offset) < 16
    return int(offset) if known and int(offset) <= about.st_size else 0


def _lines(data: bytes) -> tuple[dict[str, dict[str, Line]], int]:
    found: dict[str, dict[str, Line]] = {}
    damaged = count = 0
    for text in data.split(b"\n"):
        try:
            row = json.loads(text) if text else None
        except (ValueError, RecursionError):
            damaged += 1
            continue
        if row is None:
            continue
        step, stage = (row.get("step"), row.get("stage")) if isinstance(row, dict) else (None, None)
        if type(step) is not int or abs(step) > 2**53 or not isinstance(stage, str):
            damaged += 1
            continue
        told = found.setdefault(stage[:_NAME], {})
        for name, value in row.items():
            name, value = name[:_NAME], finite(value)
            if name == "step" or value is None:
                continue
            count += name not in told
            if name in told or count <= _LINES:
                steps, values = told.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    return found, damaged


def thinned(steps: list[int], values: list[float], most: int = POINTS) -> Line:
    """At most `most` points of a line: the first, the last, and between them the least and the greatest of each of many
    stretches, so that no peak is lost."""
    if len(steps) <= most:
        return steps, values
    import numpy as np

    y = np.asarray(values)
    edges = np.linspace(1, len(y) - 1, (most - 2) // 2 + 1).astype(int)
    kept = {0, len(y) - 1}
    for low, high in itertools.pairwise(edges.tolist()):
        kept |= {low + int(y[low:high].argmin()), low + int(y[low:high].argmax())}
    chosen = sorted(kept)
    return [steps[i] for i in chosen], [values[i] for i in chosen]
