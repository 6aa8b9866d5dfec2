"""All that the page of one run shows."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from jichu.core.errors import DataError, UsageError
from jichu.core.glance import glance
from jichu.core.places import Places

from .facts import Facts, finite, intervals, read_object
from .runs import size

_TEXT = 2**18  # bytes of a recipe that are shown
_EXAMPLES = 12
_KINDS = {".png": "image/png", ".wav": "audio/wav"}  # as a run writes examples
PAGES = {  # what a run shows of itself, by its name on the board
    "report": ("report.html", "text/html; charset=utf-8"),
    "data": ("data.html", "text/html; charset=utf-8"),
    "card": ("MODEL_CARD.md", "text/plain; charset=utf-8"),
    "compression": ("compress/compression.html", "text/html; charset=utf-8"),
}


def details(run: Facts) -> dict[str, Any]:
    """Facts, recipe, environment, stages, and what else there is to look at."""
    place = Places(run.path)
    told: list[str] = []
    summary, environment = _object(place.summary, told), _object(place.environment, told)
    stages = [_stage(stage) for stage in summary.get("stages", []) if isinstance(stage, dict)]
    return {
        **run.plain(), "bytes": size(run.path), "recipe": _text(place.recipe, told), "environment": environment,
        "stages": stages, "warnings": [w for w in summary.get("warnings", []) if isinstance(w, str)], "damaged": told,
        "pages": [name for name in PAGES if _there(run.path, name)], "examples": _examples(place.examples),
        "steps": _steps(environment, run.stage),
    }  # fmt: skip


def _stage(stage: dict[str, Any]) -> dict[str, Any]:
    metrics = stage.get("metrics")
    figures = metrics.items() if isinstance(metrics, dict) else ()
    return {
        "name": str(stage.get("name"))[:200], "stage": str(stage.get("stage"))[:200], "seconds": finite(stage.get("seconds")),
        "samples_per_second": finite(stage.get("samples_per_second")), "utilisation": finite(stage.get("utilisation")),
        "metrics": intervals(metrics) | {str(k)[:200]: {"value": v} for k, v in figures if finite(v) is not None},
    }  # fmt: skip


def _steps(environment: dict[str, Any], stage: str) -> int | None:
    """How many steps the stage is to have."""
    plans = environment.get("plans")
    plan = plans.get(stage) if isinstance(plans, dict) else None
    steps = finite(plan.get("steps")) if isinstance(plan, dict) else None
    return None if steps is None else int(steps)


def _object(path: Path, told: list[str]) -> dict[str, Any]:
    try:
        return read_object(path)
    except DataError as error:
        told.append(f"{path.name}: {error.what}")
        return {}


def _text(path: Path, told: list[str]) -> str:
    try:
        return (glance(path, _TEXT) or b"").decode("utf-8", "replace")
    except DataError as error:
        told.append(f"{path.name}: {error.what}")
        return ""


def _examples(folder: Path) -> list[str]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(f.name for f in folder.iterdir() if f.suffix in _KINDS and _is_plain(f))[:_EXAMPLES]


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _there(run: Path, name: str) -> bool:
    try:
        return _within(run, PAGES[name][0]) is not None
    except UsageError:
        return False


def page(run: Facts, name: str) -> tuple[Path, str]:
    """The file of a page or an example, and its type. UsageError where there is no such, or a link in its place."""
    if name in PAGES:
        file, kind = PAGES[name]
        return _within(run.path, file), kind
    folder, _, example = name.partition("/")
    if folder == "examples" and "/" not in example and Path(example).suffix in _KINDS:
        return _within(run.path, name), _KINDS[Path(example).suffix]
    raise UsageError(f"no page {name!r} in {run.name}", expected=f"one of {', '.join(PAGES)}")


def _within(run: Path, file: str) -> Path:
    """A plain file in a run folder, with no link on the way to it."""
    path = run / file
    if any(part.is_symlink() for part in (path, path.parent) if part != run) or not _is_plain(path):
        raise UsageError(f"no {file} in {run.name}", expected="a run that has it")
    return path
