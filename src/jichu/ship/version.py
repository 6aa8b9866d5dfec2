"""Which version of a model answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jichu.core.errors import DataError
from jichu.core.files import fingerprint, fingerprint_of_file
from jichu.ship.onnx_model import OnnxModel

if TYPE_CHECKING:
    from jichu.runs import Run


def _files(run: Run) -> list[Path]:
    """What says how a run reads and answers."""
    return [run.folder.recipe, *sorted(path for path in run.folder.model.rglob("*") if path.is_file())]


def version(run: Run | OnnxModel) -> str:
    """The name of the run or of the graph, and a fingerprint of all that the model is made of."""
    if isinstance(run, OnnxModel):  # of what was read, be another file there by now or not
        return f"{run.path.name}@{run.fingerprint[:12]}"
    try:
        parts = [(str(path.relative_to(run.path)), fingerprint_of_file(path)) for path in _files(run)]
    except OSError as error:
        raise DataError(f"cannot read the model: {error.strerror}", where=run.path) from None
    return f"{run.path.resolve().name}@{fingerprint(parts)[:12]}"
