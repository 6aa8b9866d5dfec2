"""The adapters in run folders: what there is, made part of a whole model, taken away."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jichu.core.config import check, dump_yaml, read_yaml
from jichu.core.errors import DataError, JichuError, UsageError, unknown
from jichu.core.files import aside, flush, link, read_json, write_text
from jichu.core.folder import RunFolder
from jichu.core.lock import alone
from jichu.models import adapters
from jichu.models import folder as model_folder
from jichu.recipe.config import Recipe
from jichu.train import checkpoint

# of a run what is its model's own, and not of its training's
_RECORDS = ("environment.json", "metrics.jsonl", "timing.jsonl", "quarantine.jsonl", "layers.jsonl", "sources.parquet",
            "predictions*.parquet", "audit.json", "report.html", "data.html", "summary.json")  # fmt: skip


@dataclass
class Adapter:
    """The adapters that a stage of a run has trained."""

    run: str
    stage: str
    base: str | None
    state: (
        str  # of the base: there, gone, changed, or merged, where the run has its weights itself; or damaged
    )
    kind: str
    rank: int
    pattern: str
    bytes: int
    score: dict[str, float]  # the first metric of the run's audit


def found(paths: Iterable[str | Path] = ("runs",)) -> list[Adapter]:
    """The adapters of runs, and of all runs in folders. UsageError where a path is neither."""
    known = cache(_fingerprint)
    return [_look(run, stage, known) for path in paths for run in _runs(Path(path)) for stage in _stages(run)]


def _runs(path: Path) -> list[Path]:
    if (path / "recipe.yaml").exists():
        return [path]
    inside = sorted(recipe.parent for recipe in path.glob("*/recipe.yaml"))
    if not inside:
        raise UsageError(f"no runs in {path}", expected="a run folder, or a folder with runs")
    return inside


def _stages(run: Path) -> list[str]:
    """The stages that have trained adapters."""
    return sorted(p.parents[1].name for p in run.glob(f"models/*/{adapters.FOLDER}/{adapters.TENSORS}"))


def _fingerprint(folder: Path) -> str | None:
    """Of a model folder; None where its weights cannot be had."""
    try:
        return adapters.fingerprint(adapters.tensors(folder))
    except JichuError:
        return None


def _look(run: Path, stage: str, known: Any) -> Adapter:
    model = RunFolder(run).stage_model(stage)
    try:
        about = adapters.settings(model)
        tensors, meant = adapters.read(model / adapters.FOLDER / adapters.TENSORS)
    except DataError:  # which says more where they are used; the others are told all the same
        return Adapter(str(run), stage, None, "damaged", "", 0, "", 0, {})
    names = sorted({re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in about.target_modules})
    return Adapter(
        str(run), stage, about.base_model_name_or_path or None, _state(model, about, meant, known),
        "DoRA" if about.use_dora else "LoRA", about.r, ", ".join(names),
        sum(t.numel() * t.element_size() for t in tensors.values()), _score(run, stage),
    )  # fmt: skip


def _state(model: Path, about: adapters.Settings, meant: str | None, known: Any) -> str:
    if not adapters.is_based(model):
        return "merged"
    base = adapters.find_base(model, about.base_model_name_or_path or "")
    if base is None:
        return "gone"
    return "there" if known(base.resolve()) == meant else "changed"


def _score(run: Path, stage: str) -> dict[str, float]:
    audit = RunFolder(run).audit
    measured = read_json(audit) if audit.exists() else {}
    metrics = measured.get("models", {}).get(stage, {}).get("metrics", {})
    name = str(measured.get("primary"))
    return {name: metrics[name]["value"]} if name in metrics else {}


def merge(run: str | Path, out: str | Path | None = None, stage: str | None = None) -> Path:
    """Make the model of a run whole, so that it needs its base no more: in its place, or with `out` in a run folder
    of its own, the run being left as it is. `stage` is the recipe's result if not given. Gives the folder.

    Raises UsageError where there is nothing to merge, the base is gone or another, or `out` is there already."""
    folder, recipe, stage = _of(run, stage)
    if not adapters.is_based(folder.stage_model(stage)):
        raise UsageError(f"{stage} of {folder.path} has its weights itself", expected="nothing to be merged")
    model, _ = model_folder.load(folder.stage_model(stage))
    if out is not None:
        return _copied(folder, recipe, stage, model, Path(out))
    with alone(folder.path):
        model_folder.save_weights(folder.stage_model(stage), model)
        if stage == recipe.chosen:
            link(folder.stage_model(stage) / adapters.WEIGHTS, folder.model / adapters.WEIGHTS)
    return folder.path


def _copied(folder: RunFolder, recipe: Recipe, stage: str, model: Any, out: Path) -> Path:
    """A run folder with one model, whole, and what is told of it."""
    if out.exists():
        raise UsageError(f"{out} is there already", where="--out", expected="the name of a new folder")
    with aside(out) as made:
        copy = RunFolder(made)
        for pattern in _RECORDS:
            for file in folder.path.glob(pattern):
                shutil.copyfile(file, made / file.name)
        if folder.examples.exists():
            shutil.copytree(folder.examples, copy.examples)
        left_out = shutil.ignore_patterns(adapters.FOLDER)
        shutil.copytree(folder.stage_model(stage), copy.stage_model(stage), ignore=left_out)
        model_folder.save_weights(copy.stage_model(stage), model)
        for file in copy.stage_model(stage).iterdir():
            link(file, copy.model / file.name)
        write_text(copy.recipe, dump_yaml(recipe.model_copy(update={"result": stage}).plain()))
        os.rename(made, out)
        flush(out.parent)
    return out


def remove(run: str | Path, stage: str | None = None) -> int:
    """Take away the adapters of a stage, by default the recipe's result; what is told of the run stays. A model that
    has its weights itself stays too; one that was adapters and no more goes, and --resume would train it again.
    Gives the bytes. UsageError where there are none, or other adapters stand on them."""
    folder, recipe, stage = _of(run, stage)
    model = folder.stage_model(stage)
    places = [model, folder.model] if stage == recipe.chosen else [model]
    based = adapters.is_based(model)
    if based and (standing := _standing_on(folder.path, places)):
        raise UsageError(
            f"{', '.join(standing)} stand on the adapters of {folder.path}",
            expected=f"jichu adapters merge {standing[0]} first",
        )
    size = sum(file.stat().st_size for file in (model / adapters.FOLDER).iterdir())
    with alone(folder.path):
        last = folder.checkpoints / "last.safetensors"
        state = checkpoint.read_state(last) if based else None
        if state is not None and str(state["name"]).partition("/")[0] == stage:
            shutil.rmtree(folder.checkpoints)
        for place in places:
            shutil.rmtree(place if based else place / adapters.FOLDER, ignore_errors=True)
    return size


def _standing_on(run: Path, places: list[Path]) -> list[str]:
    """The runs beside a run whose adapters stand on one of its models."""
    mine = {place.resolve() for place in places}
    others = [other for other in _runs(run.resolve().parent) if other.name != run.resolve().name]
    return [
        str(run.parent / other.name) for other in others for stage in _stages(other)
        if (base := _base(RunFolder(other).stage_model(stage))) and base.resolve() in mine
    ]  # fmt: skip


def _base(model: Path) -> Path | None:
    if not adapters.is_based(model):
        return None
    return adapters.find_base(model, adapters.settings(model).base_model_name_or_path or "")


def _of(run: str | Path, stage: str | None) -> tuple[RunFolder, Recipe, str]:
    """A run, its recipe, and the stage that is meant. UsageError where that has no adapters."""
    folder = RunFolder.open(run)
    recipe = check(Recipe, read_yaml(folder.recipe), where=str(folder.recipe))
    stage = stage or recipe.chosen or ""
    choices = _stages(folder.path)
    if not choices:
        raise UsageError(f"no adapters in {folder.path}", expected="a run that trained with adapt: lora")
    if stage not in choices:
        raise unknown("stage with adapters", stage, choices, where="--stage")
    return folder, recipe, stage
