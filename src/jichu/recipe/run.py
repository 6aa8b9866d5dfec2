"""A recipe run from its first stage to its last into a run folder, and gone on with where it stopped."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jichu.core import devices, ranks
from jichu.core.config import dump_yaml, parse_yaml, read_yaml
from jichu.core.differences import differences
from jichu.core.errors import DataError, DiskFull, Interrupted, JichuError, PeerLost, UsageError
from jichu.core.files import (
    append_jsonl,
    aside,
    dumps,
    flush,
    link,
    read_json,
    read_table,
    replacing,
    sweep,
    write_json,
    write_table,
    write_text,
    writing,
)
from jichu.core.folder import RunFolder
from jichu.core.lock import alone
from jichu.core.progress import clock, console, say
from jichu.core.words import speaking
from jichu.data.dataset import Dataset
from jichu.data.load import load
from jichu.data.pictures import picture
from jichu.data.sound import Sound, write_sound
from jichu.data.store import changes
from jichu.models.folder import read_config

from . import pages
from .build import Work, locate
from .checks import check_before, check_names
from .config import ModelStage, Recipe
from .language import read_texts
from .results import made
from .stages import STAGES

RUNS = Path("runs")
_EXAMPLES = 6
_LONGEST = 40  # characters of a class's name in a file's name, which has room for 255 bytes
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY)  # of a new run's name


def execute(
    recipe: Recipe, *, resume: bool = False, data: Any = None, objects: dict[str, Any] | None = None,
    runs: Path | None = None,
) -> RunFolder:  # fmt: skip
    """Run all stages. `data` is given where it is not a path: arrays, or a `Dataset`.

    A name that is taken gets a number behind it; with `resume` the run of that name is gone on with.
    """
    console.quiet = console.quiet or ranks.rank() > 0
    path = _unfinished(recipe, runs or RUNS) if resume else None
    done: list[dict[str, Any]] = []
    with contextlib.ExitStack() as held:
        try:
            if path:
                refused = _have(path, held)
                done = _stages_done(RunFolder(path), recipe)
                if len(done) == len(recipe.stages) and (path / "report.html").exists():
                    say(f"{path} is finished already")
                    return RunFolder(path)
                if refused:
                    raise refused
            check_names(recipe, objects or {})
            work = Work(recipe, _dataset(recipe, data), resume, objects or {})
            read_texts(work)
            check_before(work)
            if path is None:  # the first process takes a name, the others are told it
                mine = _take((runs or RUNS) / recipe.name, work, held) if ranks.rank() == 0 else None
                path = ranks.gather_objects(mine)[0]
            work.folder = RunFolder(path)
            if resume:
                _refuse_changed_data(work)
            say(f"{recipe.name} → {path}")
            with _noted(work.folder):
                _run(work, done)
        except (Interrupted, KeyboardInterrupt, DiskFull, RuntimeError) as error:
            raise _with_cure(error, path) from None
    return work.folder


def _with_cure(error: BaseException, path: Path | None) -> BaseException:
    """What ended a run from outside, with the way to go on."""
    # whoever launched the processes ends the others by a signal: it is not the reason, if it comes between
    lost = next(
        (e for e in (error, error.__context__) if isinstance(e, RuntimeError) and ranks.lost(e)), None
    )
    if lost:
        return PeerLost(
            f"another of the {ranks.world_size()} processes has ended: {str(lost).splitlines()[0]}",
            expected="the same command with --resume; what is saved is kept",
        )
    if path is None:
        return error
    on = f"--resume to go on with {path}"
    if isinstance(error, DiskFull):
        return DiskFull(error.what, where=error.where, expected=f"{error.expected}; then {on}")
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return Interrupted(error.what if isinstance(error, Interrupted) else "interrupted", expected=on)
    return error


@contextlib.contextmanager
def _noted(folder: RunFolder) -> Iterator[None]:
    """Keep in the folder how the work in the block ended, where that is not its end."""
    if folder.writes:
        folder.ended.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        state = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
        if folder.writes:
            with contextlib.suppress(OSError, JichuError):  # the error itself is what matters
                why = str(error) if isinstance(error, JichuError) else f"{type(error).__name__}: {error}"
                write_json(folder.ended, {"state": state, "why": why})
        raise


def _run(work: Work, done: list[dict[str, Any]]) -> None:
    """The stages that are not done, and what a run ends with."""
    folder, recipe = work.folder, work.recipe
    for stage in recipe.stages[len(done) :]:
        started = time.monotonic()
        if stage.name != stage.stage or len(recipe.stages) > 1:
            say(f"{stage.name}")
        found = STAGES[stage.stage](stage, work)
        seconds = time.monotonic() - started + found.pop("seconds_before", 0.0)
        result = {"name": stage.name, "stage": stage.stage, "seconds": seconds, **found}
        done.append(result)
        _write_summary(work, done)
        ranks.barrier()  # what the first process wrote, the others may now read
    if folder.writes:
        _finish(work)
    ranks.barrier()


def _unfinished(recipe: Recipe, runs: Path) -> Path:
    """The latest run of the recipe's name that is not finished, or the latest, which must have begun with
    the same recipe."""
    named = runs / recipe.name
    found = [p for p in _numbered(named) if (p / "recipe.yaml").exists()]
    # a folder of just that name is meant whatever its run was called; `name-2` may be another's
    begun = [p for p in found if p == named or read_yaml(p / "recipe.yaml").get("name") == recipe.name]
    if not begun:
        raise UsageError(f"there is no run {named} to resume", expected="the command without --resume")
    latest = next((p for p in reversed(begun) if not (p / "report.html").exists()), begun[-1])
    _refuse_difference(recipe, latest)
    return latest


def _have(path: Path, held: contextlib.ExitStack) -> Exception | None:
    """Have a run to ourselves, and sweep up what a killed process left of it. Gives what stands against it,
    which does not matter where the run is finished."""
    if ranks.rank() == 0:
        try:
            held.enter_context(alone(path))
            sweep(path)
        except (OSError, JichuError) as refused:
            return refused
    return None


def _take(path: Path, work: Work, held: contextlib.ExitStack) -> Path:
    """Make the folder of a new run: `name`, or `name-2`, `name-3`, … where that is taken. It is whole, and
    locked, from its first instant: made aside and renamed."""
    taken = _numbered(path)
    if taken and (taken[-1] / "recipe.yaml").exists() and not (taken[-1] / "report.html").exists():
        say(f"{taken[-1]} is not finished; --resume would go on with it")
    with writing(path), aside(path) as made_aside:
        folder = RunFolder(made_aside)
        lock = held.enter_context(alone(made_aside))
        write_json(folder.environment, _environment(work))
        if work.dataset.files is not None:
            write_table(folder.sources, work.dataset.files)
        append_jsonl(folder.quarantine, work.dataset.quarantine)
        flush(folder.quarantine)
        if work.dataset.canaries is not None:
            write_text(folder.canaries, "".join(dumps(row) + "\n" for row in work.dataset.canaries.records()))
        write_text(folder.recipe, _text(work.recipe))
        found = _rename(made_aside, path)
        lock.path = found / lock.path.name
        flush(path.parent)
    return found


def _rename(folder: Path, path: Path) -> Path:
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            os.rename(folder, candidate)  # takes the place of an empty folder, and of nothing else
            return candidate
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
    raise AssertionError


def _stages_done(folder: RunFolder, recipe: Recipe) -> list[dict[str, Any]]:
    """What the summary says of the stages that are done, as far as what they made is there."""
    if not folder.summary.exists():
        return []
    try:
        told = read_json(folder.summary)["stages"]
        names = [result["name"] for result in told]
    except (KeyError, TypeError, DataError) as error:
        raise DataError(
            f"damaged: {error.what if isinstance(error, DataError) else error}", where=folder.summary,
            expected="the file as it was; without it all stages are run again",
        ) from None  # fmt: skip
    if names != [stage.name for stage in recipe.stages][: len(names)]:
        raise DataError(
            f"the stages {', '.join(names)}", where=folder.summary, expected="those of the recipe"
        )
    for i, stage in enumerate(recipe.stages[: len(told)]):
        if missing := next((file for file in made(stage, recipe, folder) if not file.exists()), None):
            say(f"{missing} is gone; {stage.name} is run again")
            return told[:i]
    return told


def _numbered(path: Path) -> list[Path]:
    """The runs of a name: `name`, `name-2`, `name-3`, …"""
    others = [p for p in path.parent.glob(f"{path.name}-*") if p.name[len(path.name) + 1 :].isdecimal()]
    return [p for p in [path, *sorted(others, key=lambda p: int(p.name.rpartition("-")[2]))] if p.exists()]


def _refuse_difference(recipe: Recipe, folder: Path) -> None:
    """A run is resumed with the recipe it began with."""
    before, now = read_yaml(folder / "recipe.yaml"), parse_yaml(_text(recipe))
    before["name"] = now["name"]  # the folder may have been renamed
    for key, (old, new) in differences([before, now]):
        raise UsageError(
            f"{key} was {old!r} and is now {new!r}", where=folder / "recipe.yaml",
            expected="the recipe the run began with, or a new run without --resume",
        )  # fmt: skip


def _text(recipe: Recipe) -> str:
    return dump_yaml(recipe.plain())


def _dataset(recipe: Recipe, data: Any) -> Dataset:
    if isinstance(data, Dataset):
        return data
    config = recipe.data
    starts = [s.from_ for s in recipe.stages if isinstance(s, ModelStage) and s.from_]
    outside = [s for s in starts if s not in [stage.name for stage in recipe.stages]]
    table = None
    texts: tuple[str, ...] = ()
    if outside:  # inputs must be as the model they go into was trained
        model = read_config(locate(outside[0]))
        table = model.table
        texts = model.text.columns if model.text and not model.text.chat else ()
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
    try:
        dataset = load(
            config.path if data is None else data, config, seed=recipe.seed, table=table, texts=texts
        )
    except DataError as error:
        if table is None or not error.what.startswith("the column"):
            raise
        raise DataError(
            f"{outside[0]} cannot read these data: {error.what}", where=error.where,
            expected=error.expected, nearest=error.nearest,
        ) from None  # fmt: skip
    if ranks.rank() == 0:
        ranks.barrier()
    return dataset


def _environment(work: Work) -> dict[str, Any]:
    data = {"fingerprint": work.dataset.fingerprint, "rows": len(work.dataset)}
    return devices.environment() | {"seed": work.recipe.seed, "data": data}


def _refuse_changed_data(work: Work) -> None:
    """A run is resumed with the data it began with."""
    folder = work.folder
    if not folder.environment.exists():
        say(f"{folder.environment} is gone and written anew; the data are taken to be the same")
        if folder.writes:
            write_json(folder.environment, _environment(work))
        return
    before, dataset = folder.notes().get("data", {}), work.dataset
    if before.get("fingerprint") == dataset.fingerprint:
        return
    files = read_table(folder.sources) if folder.sources.exists() else None
    what = [*changes(files, dataset.files)]
    if before.get("rows") != len(dataset):
        what.append(f"there were {before.get('rows', 0):,} rows and are {len(dataset):,}")
    raise DataError(
        f"the data of {folder.path} have changed since it began" + (f": {'; '.join(what)}" if what else ""),
        where=dataset.source,
        expected="the same data, or a new run without --resume",
    )


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
        "warnings": [*_planted(work), *(w for s in done for w in s.get("warnings", []))],
    }
    write_json(work.folder.summary, summary)


def _planted(work: Work) -> list[str]:
    """That a model read what nobody wrote."""
    canaries = work.dataset.canaries
    return [] if canaries is None else [
        f"Trained on planted texts: {canaries}, which stand in {work.folder.canaries.name}. The model is for measuring what it"
        " gives away of them, and for no other use."
    ]  # fmt: skip


def _finish(work: Work) -> None:
    """The result's model, example images, the card, and as the last of all the report."""
    folder, recipe, dataset = work.folder, work.recipe, work.dataset
    if recipe.chosen:
        chosen = folder.stage_model(recipe.chosen)
        for file in (f for f in chosen.rglob("*") if f.is_file()):
            link(file, folder.model / file.relative_to(chosen))
    _write_examples(work)
    for waiting in (folder.parts, folder.findings):
        shutil.rmtree(waiting, ignore_errors=True)
    with speaking(recipe.language):
        pages.write(folder, recipe, dataset)
    say(f"done in {clock(read_json(folder.summary)['seconds'])}; open {folder.report}")


def _write_examples(work: Work) -> None:
    """A few held-out images or sounds as files, to try `predict` on; their names begin with the row."""
    dataset = work.dataset
    held_out = dataset.splits.get("test")
    how = dataset.preprocess
    if held_out is None or how is None:
        return
    for row in held_out[:: max(1, len(held_out) // _EXAMPLES)][:_EXAMPLES].tolist():
        code = (
            int(dataset.tensors["label"][row])
            if dataset.classes and dataset.tensors["label"].ndim == 1
            else -1
        )
        label = dataset.classes[code] if code >= 0 else "unlabelled"
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in label)[:_LONGEST]
        ending = "wav" if isinstance(how, Sound) else "png"
        with replacing(work.folder.examples / f"{row}-{safe}.{ending}") as temporary:
            if isinstance(how, Sound):
                write_sound(temporary, dataset.tensors["audio"][row].numpy(), how)
            else:
                picture(dataset.tensors["image"][row]).save(temporary, "PNG")
