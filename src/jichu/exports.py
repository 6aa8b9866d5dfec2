"""A run's model written for other programs, and proven there on rows that it has not seen."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jichu
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError, unknown
from jichu.core.files import aside, flush, replacing
from jichu.core.names import resolve
from jichu.core.progress import say
from jichu.data.config import IN_MEMORY, DataConfig
from jichu.graph_inputs import batches, held, proof_rows
from jichu.models import adapters, ranges
from jichu.models.model import Model
from jichu.quantized import ALLOWED, asked_for, quantized
from jichu.runs import Run
from jichu.ship.export import FORMATS
from jichu.ship.export.base import Format, Subject
from jichu.ship.export.parity import check
from jichu.ship.export.program import ROWS, TOKENS, WRITTEN, Shapes, inputs, reference
from jichu.ship.scores import Compared
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
    quantized: Compared | None = None  # beside the float32 graph

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "path": str(self.path), "quantized": self.quantized and self.quantized.plain()}


def export(
    run: Run | str | Path, to: str = "onnx", output: str | Path | None = None, *, tolerance: float = TOLERANCE,
    data: Any = None, overwrite: bool = False, quantize: str | dict[str, Any] | None = None, keep: Sequence[str] = (),
    allow_loss: float = ALLOWED,
) -> Exported:  # fmt: skip
    """Write the model of a run as `onnx`, `torch` (torch.export), `hf` (a folder for transformers) or `gguf`, by default
    into the run's folder `export`. It is run in its own runtime on held-out rows, of the run's own data or of `data`, and
    compared with the model; only then it takes its place.

    `quantize` is a scheme for the graph of `onnx` (a name of `jichu.ship.quantize.QUANTIZATIONS`, or {"name": …} with
    arguments), `keep` names layers that it leaves as they are, "auto" as many as it takes. Such a graph is held beside
    the float32 one by the score on held-out labelled rows: `allow_loss` points of the run's first metric may be lost.

    CheckFailed, with the first layer that differs, where a difference is over the tolerance, or with the layers that lose
    most, where the score is; UsageError where the format has no words for such a model, or there is something at `output`
    already and not to `overwrite`."""
    run = run if isinstance(run, Run) else Run(run)
    if to not in FORMATS:
        raise unknown("format", to, FORMATS, where="--to")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(f"a tolerance of {tolerance}", where="--tolerance", expected="a number above 0")
    made: Format = resolve("format", to, FORMATS)()
    scheme = _scheme(to, quantize, keep, allow_loss)
    path = _place(run, made, output, overwrite, f"-{scheme.name}" if scheme else "")
    subject = _subject(run, data)
    asked = held(run, subject.signature.inputs, data) if scheme else None
    with _aside(path) as temporary:
        say(f"{run.path} is written for {to}, and then run there on held-out rows")
        if any(getattr(part, "holds_rows", False) for part in subject.model.modules()):
            say("the file holds rows of the training data, as its head does: pass it on as you would these")
        made.write(subject, temporary)
        proof = check(subject, made.read(temporary, subject), tolerance)
        lost = quantized(temporary, run, data, scheme, asked, keep, allow_loss) if scheme and asked else None
        size = sum(f.stat().st_size for f in [temporary, *temporary.rglob("*")] if f.is_file())
    return Exported(path, to, size, proof.rows, proof.difference, tolerance, lost)


def _scheme(
    to: str, quantize: str | dict[str, Any] | None, keep: Sequence[str], allowed: float
) -> Spec | None:
    """UsageError, before anything is computed, where these do not go together."""
    if quantize is None:
        if keep:
            raise UsageError(
                "layers to keep, and nothing is quantized", where="--keep", expected="--quantize too"
            )
        return None
    if to != "onnx":
        raise UsageError(f"--quantize with --to {to}", where="--quantize", expected="--to onnx")
    return asked_for(quantize, allowed)


# --- where


def _place(run: Run, made: Format, output: str | Path | None, overwrite: bool, kind: str) -> Path:
    """Where to. UsageError, before anything is computed, where that cannot be."""
    path = run.path / "export" / f"model{kind}{made.ending}" if output is None else Path(output)
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
    if ranges.seen(model):  # which int8-static rounds by; every other graph has the weights alone
        model = copy.deepcopy(model)
        ranges.forget(model)
    dims = inputs(config, model)
    dataset = run.dataset(data)
    given = batches(dataset, proof_rows(dataset, _ROWS), dims, config.text.context if config.text else 0)
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
    subject = Subject(model, config, signature, tokenizer, given)
    try:
        found = reference(subject, given[-1])
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
