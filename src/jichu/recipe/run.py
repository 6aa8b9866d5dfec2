"""A recipe run from its first stage to its last into a run folder, and gone on with where it stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from jichu.auditing import report
from jichu.auditing import table as tables
from jichu.auditing.figures import picture
from jichu.core import devices, ranks
from jichu.core.config import dump_yaml, parse_yaml, read_yaml
from jichu.core.errors import DataError, Interrupted, UsageError
from jichu.core.files import append_jsonl, read_json, read_jsonl, write_json, write_text
from jichu.core.folder import RunFolder
from jichu.core.progress import clock, console, say
from jichu.data.dataset import Dataset, load
from jichu.models.folder import read_config

from .build import Work, locate
from .checks import check_before, check_names
from .config import ModelStage, Recipe
from .stages import STAGES

RUNS = Path("runs")
_EXAMPLES = 6


def execute(
    recipe: Recipe, *, resume: bool = False, data: Any = None, objects: dict[str, Any] | None = None,
    runs: Path | None = None,
) -> RunFolder:  # fmt: skip
    """Run all stages. `data` is given where it is not a path: arrays, or a `Dataset`.

    A name that is taken gets a number behind it; with `resume` the run of that name is gone on with.
    """
    console.quiet = console.quiet or ranks.rank() > 0
    path = _unfinished(recipe, runs or RUNS) if resume else None
    done = _stages_done(path) if path else []
    if path and len(done) == len(recipe.stages) and (path / "report.html").exists():
        say(f"{path} is finished already")
        return RunFolder(path)
    check_names(recipe, objects or {})
    dataset = _dataset(recipe, data)
    work = Work(recipe, dataset, resume, objects or {})
    check_before(work)
    if path is None:  # the first process takes a name, the others are told it
        path = ranks.gather_objects(_take((runs or RUNS) / recipe.name) if ranks.rank() == 0 else None)[0]
    folder = work.folder = RunFolder(path)
    _write_start(work)
    say(f"{recipe.name} → {folder.path}")
    try:
        for stage in recipe.stages[len(done) :]:
            started = time.monotonic()
            if stage.name != stage.stage or len(recipe.stages) > 1:
                say(f"{stage.name}")
            found = STAGES[stage.stage](stage, work)
            seconds = time.monotonic() - started
            result = {"name": stage.name, "stage": stage.stage, "seconds": seconds, **found}
            done.append(result)
            _write_summary(work, done)
            ranks.barrier()  # what the first process wrote, the others may now read
    except (Interrupted, KeyboardInterrupt) as stopped:
        what = stopped.what if isinstance(stopped, Interrupted) else "interrupted between two steps"
        raise Interrupted(what, expected=f"--resume to go on with {folder.path}") from None
    if folder.writes:
        _finish(work)
    ranks.barrier()
    return folder


def _unfinished(recipe: Recipe, runs: Path) -> Path:
    """The latest run of the recipe's name, which must have begun with the same recipe."""
    found = [p for p in _numbered(runs / recipe.name) if (p / "recipe.yaml").exists()]
    begun = [p for p in found if read_yaml(p / "recipe.yaml").get("name") == recipe.name]
    if not begun:
        raise UsageError(
            f"there is no run {runs / recipe.name} to resume", expected="the command without --resume"
        )
    _refuse_difference(recipe, begun[-1])
    return begun[-1]


def _take(path: Path) -> Path:
    """Make the folder of a new run: `name`, or `name-2`, `name-3`, … where that is taken."""
    taken = _numbered(path)
    if taken and (taken[-1] / "recipe.yaml").exists() and not (taken[-1] / "report.html").exists():
        say(f"{taken[-1]} is not finished; --resume would go on with it")
    candidate, number = path, 1
    while True:
        try:
            candidate.mkdir(parents=True)
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")


def _stages_done(path: Path) -> list[dict[str, Any]]:
    summary = path / "summary.json"
    return read_json(summary, ["stages"])["stages"] if summary.exists() else []


def _numbered(path: Path) -> list[Path]:
    """The runs of a name: `name`, `name-2`, `name-3`, …"""
    others = [p for p in path.parent.glob(f"{path.name}-*") if p.name[len(path.name) + 1 :].isdecimal()]
    return [p for p in [path, *sorted(others, key=lambda p: int(p.name.rpartition("-")[2]))] if p.exists()]


def _refuse_difference(recipe: Recipe, folder: Path) -> None:
    """A run is resumed with the recipe it began with."""
    before, now = read_yaml(folder / "recipe.yaml"), parse_yaml(_text(recipe))
    for key, old, new in _differences(before, now, ""):
        raise UsageError(
            f"{key} was {old!r} and is now {new!r}", where=folder / "recipe.yaml",
            expected="the recipe the run began with, or a new run without --resume",
        )  # fmt: skip


def _differences(a: Any, b: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [d for k in keys for d in _differences(a.get(k), b.get(k), f"{path}.{k}".lstrip("."))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in _differences(x, y, f"{path}.{i}")
        ]
    return [] if a == b else [(path, a, b)]


def _text(recipe: Recipe) -> str:
    return dump_yaml(recipe.plain())


def _dataset(recipe: Recipe, data: Any) -> Dataset:
    if isinstance(data, Dataset):
        return data
    config = recipe.data
    starts = [s.from_ for s in recipe.stages if isinstance(s, ModelStage) and s.from_]
    outside = [s for s in starts if s not in [stage.name for stage in recipe.stages]]
    table = None
    if outside:  # inputs must be as the model they go into was trained
        model = read_config(locate(outside[0]))
        table = model.table
        if model.image:
            filled = {"size": model.image.size, "channels": model.image.channels}
            config = config.model_copy(
                update={k: v for k, v in filled.items() if getattr(config, k) == "auto"}
            )
    hub = [s.backbone.name for s in recipe.stages if isinstance(s, ModelStage) and s.backbone
           and s.backbone.name.startswith("hf:") and not (s.pixels and s.pixels.size)]  # fmt: skip
    if hub and config.size == "auto":  # as large as the checkpoint's images were
        from jichu.models.hub import trained_size

        config = config.model_copy(update={"size": trained_size(hub[0]) or "auto"})
    if ranks.rank() > 0:
        ranks.barrier()  # the first process decodes, the others find it decoded
    dataset = load(config.path if data is None else data, config, seed=recipe.seed, table=table)
    if ranks.rank() == 0:
        ranks.barrier()
    return dataset


def _write_start(work: Work) -> None:
    folder, recipe = work.folder, work.recipe
    if work.resume:
        before = folder.notes().get("data")
        if before != work.dataset.fingerprint:
            raise DataError(
                f"the data of {folder.path} have changed since it began",
                where=recipe.data.path,
                expected="the same data, or a new run without --resume",
            )
        return
    if not folder.writes:
        return
    write_json(
        folder.environment, devices.environment() | {"seed": recipe.seed, "data": work.dataset.fingerprint}
    )
    append_jsonl(folder.quarantine, work.dataset.quarantine)
    write_text(folder.recipe, _text(recipe))


def _write_summary(work: Work, done: list[dict[str, Any]]) -> None:
    if not work.folder.writes:
        return
    headline: dict[str, Any] = next((s["metrics"] for s in done if s["stage"] == "audit"), {})
    summary = {
        "name": work.recipe.name,
        "seconds": sum(s["seconds"] for s in done),
        "peak_memory_mib": devices.peak_memory() // 2**20,
        "stages": done,
        "headline": {k: v for k, v in headline.items() if isinstance(v, dict)},
        "warnings": [w for s in done for w in s.get("warnings", [])],
    }
    write_json(work.folder.summary, summary)


def _finish(work: Work) -> None:
    """The result's model, example images, the report."""
    folder, recipe = work.folder, work.recipe
    if recipe.chosen:
        for file in ("model.safetensors", "config.json"):
            _link(folder.stage_model(recipe.chosen) / file, folder.model / file)
    _write_examples(work)
    has_audit = folder.audit.exists()
    report.write(
        folder.report, title=recipe.name, summary=read_json(folder.summary),
        audit=read_json(folder.audit) if has_audit else None,
        table=tables.read(folder.predictions) if has_audit else None, target=work.dataset.targets.get("label"),
        history=read_jsonl(folder.metrics), images=work.dataset.tensors.get("image"),
        data=work.dataset.summary(), environment=folder.notes(), chosen=recipe.chosen,
        data_page=folder.data_page.name if folder.data_page.exists() else None,
    )  # fmt: skip
    shutil.rmtree(folder.parts, ignore_errors=True)
    say(f"done in {clock(read_json(folder.summary)['seconds'])}; open {folder.report}")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_examples(work: Work) -> None:
    """A few held-out images as files, to try `predict` on; their names begin with the row."""
    dataset = work.dataset
    held_out = dataset.splits.get("test")
    if held_out is None or "image" not in dataset.tensors:
        return
    work.folder.examples.mkdir(exist_ok=True)
    for row in held_out[:: max(1, len(held_out) // _EXAMPLES)][:_EXAMPLES].tolist():
        code = (
            int(dataset.tensors["label"][row])
            if dataset.classes and dataset.tensors["label"].ndim == 1
            else -1
        )
        label = dataset.classes[code] if code >= 0 else "unlabelled"
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in label)
        with contextlib.suppress(OSError):
            picture(dataset.tensors["image"][row], 0).save(work.folder.examples / f"{row}-{safe}.png")
