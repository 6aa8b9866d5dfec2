"""A run's model written for other programs, and proven there on rows that it has not seen."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F

import jichu
from jichu.core.errors import DataError, UsageError, unknown
from jichu.core.files import aside, flush, replacing
from jichu.core.names import resolve
from jichu.core.progress import say
from jichu.data.batches import gather
from jichu.data.config import IN_MEMORY, DataConfig
from jichu.data.dataset import Dataset
from jichu.data.splits import evenly
from jichu.models import adapters
from jichu.models.model import Model
from jichu.runs import Run
from jichu.ship.export import FORMATS
from jichu.ship.export.base import Batch, Format, Subject
from jichu.ship.export.parity import check
from jichu.ship.export.program import LEAST, LEAST_WRITTEN, ROWS, TOKENS, WRITTEN, Shapes, inputs, reference
from jichu.ship.signature import ABOUT, Signature

TOLERANCE = 1e-4
_ROWS = 32  # that an export is run on
_READ = ("reader", "columns")  # what a recipe says of how columns are read


@dataclass(frozen=True)
class Exported:
    """What was written, and the proof: on how many rows, and the largest difference there (see
    `jichu.ship.export.parity.Proof`)."""

    path: Path
    format: str
    bytes: int
    rows: int
    difference: float
    tolerance: float


def export(
    run: Run | str | Path, to: str = "onnx", output: str | Path | None = None, *, tolerance: float = TOLERANCE,
    data: Any = None, overwrite: bool = False,
) -> Exported:  # fmt: skip
    """Write the model of a run as `onnx`, `torch` (torch.export), `hf` (a folder for transformers) or `gguf`, by default
    into the run's folder `export`. It is run in its own runtime on held-out rows, of the run's own data or of `data`, and
    compared with the model; only then it takes its place.

    CheckFailed, with the first layer that differs, where a difference is over the tolerance; UsageError where the format
    has no words for such a model, or there is something at `output` already and not to `overwrite`."""
    run = run if isinstance(run, Run) else Run(run)
    if to not in FORMATS:
        raise unknown("format", to, FORMATS, where="--to")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(f"a tolerance of {tolerance}", where="--tolerance", expected="a number above 0")
    made: Format = resolve("format", to, FORMATS)()
    path = _place(run, made, output, overwrite)
    subject = _subject(run, data)
    with _aside(path) as temporary:
        say(f"{run.path} is written for {to}, and then run there on held-out rows")
        made.write(subject, temporary)
        proof = check(subject, made.read(temporary, subject), tolerance)
        size = sum(f.stat().st_size for f in [temporary, *temporary.rglob("*")] if f.is_file())
    return Exported(path, to, size, proof.rows, proof.difference, tolerance)


# --- where


def _place(run: Run, made: Format, output: str | Path | None, overwrite: bool) -> Path:
    """Where to. UsageError, before anything is computed, where that cannot be."""
    path = run.path / "export" / f"model{made.ending}" if output is None else Path(output)
    folder = run.path if output is None else path.parent
    kept = path.is_dir() and not (path / ABOUT).exists()  # a folder that no export has made is not taken away
    for wrong, what, expected in (
        (not folder.is_dir(), f"there is no folder {folder}", "one that is there"),
        (
            made.ending and path.suffix != made.ending,
            f"{path.name} does not end in {made.ending}",
            f"{path.stem}{made.ending}",
        ),
        (made.ending and path.is_dir(), f"{path} is a folder", f"a file {path.stem}{made.ending}"),
        (not made.ending and path.is_file(), f"{path} is a file", "the name of a folder"),
        (path.exists() and not overwrite, f"{path} is there already", "another name, or --overwrite"),
        (kept, f"{path} is no export that could be overwritten", "another name"),
        (not os.access(folder, os.W_OK), f"{folder} may not be written to", "a folder of yours"),
    ):
        if wrong:
            raise UsageError(what, where="--output", expected=expected)
    return path


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A place to write to, which takes that of `path` when the block ends well, and is gone when it does not."""
    with aside(path) as folder:
        temporary = folder / path.name
        yield temporary
        if temporary.is_file():
            with replacing(path, temporary.stat().st_size) as whole:
                os.replace(temporary, whole)
            return
        if path.exists():
            shutil.rmtree(path)
        os.rename(temporary, path)
        flush(path.parent)


# --- what


def _subject(run: Run, data: Any) -> Subject:
    model, config = cast(Model, run.model), run.config
    dims = inputs(config, model)
    batches = _batches(run.dataset(data), dims, config.text.context if config.text else 0)
    tokenizer = run.tokenizer if config.text is not None else None
    card, recipe = run.recipe.card, run.recipe.data
    read = recipe.model_dump(include=set(_READ), exclude_defaults=True, by_alias=True)
    signature = Signature(
        name=run.path.resolve().name, weights=adapters.fingerprint(adapters.tensors(run.folder.model)),
        made_by=f"jichu {jichu.__version__}", licence=card.licence if card else None, inputs=dims,
        targets=config.targets, image=config.image, audio=config.audio, table=config.table or None, text=config.text,
        rules=config.rules,
        data=DataConfig.model_validate({"path": IN_MEMORY, **read}), tokenizer=tokenizer.to_str() if tokenizer is not None else None,
    )  # fmt: skip
    subject = Subject(model, config, signature, tokenizer, batches)
    try:
        found = reference(subject, batches[-1])
    except RuntimeError as error:  # of a head that takes the shapes of its weights from their file
        told = str(error).splitlines()[0]
        raise DataError(
            f"the model cannot be run: {told}", where=run.folder.model, expected="its files as they were"
        ) from None
    outputs = {name: _named(values.shape, dims) for name, values in found.items()}
    return replace(subject, signature=replace(signature, outputs=outputs))


def _named(shape: tuple[int, ...], dims: Shapes) -> list[int | str]:
    """The dimensions of an output, those that vary by the names they have in the inputs."""
    if len(shape) != 3 or "tokens" not in dims:
        return [ROWS, *shape[1:]]
    return [ROWS, WRITTEN if "answer" in dims else TOKENS, shape[2]]


def _batches(dataset: Dataset, dims: Shapes, context: int) -> list[Batch]:
    """Held-out rows, one, two and then the others together, so that the dimensions that vary do."""
    split = next((s for s in ("test", "validation", "train") if len(dataset.splits.get(s, ()))), None)
    if split is None:
        raise DataError("no row to run the export on", expected="one at least")
    rows = evenly(dataset.splits[split], _ROWS)
    columns = {name: dataset.tensors[name] for name in dims if name in dataset.tensors}
    if missing := next((name for name in dims if name not in columns and name != "answer"), None):
        raise DataError(f"the data have no {missing}, which the model reads", expected="data like the run's")
    parts = [part for part in (rows[:1], rows[1:3], rows[3:]) if len(part)]
    return [_as_read(gather(columns, part), dims, context) for part in parts]


def _as_read(batch: Batch, dims: Shapes, context: int) -> Batch:
    """The columns that are read: texts not shorter than programs are traced with, those in windows as long as all of
    them; and with an answer where one is, for which the first tokens of the text do."""
    found = {name: batch[name] for name in dims if name in batch}
    if "tokens" in dims:
        width = dims["tokens"][1]
        least = width if isinstance(width, int) else min(context, LEAST)
        found["tokens"] = F.pad(found["tokens"], (0, max(0, least - found["tokens"].shape[1])), value=-1)
    if "answer" in dims:
        found["answer"] = found["tokens"][:, : max(LEAST_WRITTEN, found["tokens"].shape[1] // 2)]
    return found
