"""Fine-tuning on what people have corrected: the recipe of the run that was asked goes on, its data with their splits, and
the right answers among the training rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jichu.core.config import check, read_yaml
from jichu.core.folder import RunFolder
from jichu.data.readers import feedback
from jichu.models import folder as model_folder

from .config import Recipe, one_stage


def finetuning(
    path: str, settings: dict[str, Any], data: dict[str, Any] | None = None, **more: Any
) -> Recipe:
    """The recipe of `jichu finetune`; where `path` is a folder of a server with right answers, and it starts from a run, what
    that says of its data holds here too."""
    start = settings.get("from")
    corrected = start is not None and os.path.exists(start) and feedback.recognises(Path(path))
    known = _of(str(start), path) if corrected else {}
    return one_stage("finetune", path, settings, data={**known, **(data or {})}, **more)


def _of(start: str, path: str) -> dict[str, Any]:
    folder = RunFolder.open(start)
    before = check(Recipe, read_yaml(folder.recipe), where=str(folder.recipe))
    found = {**before.data.model_dump(by_alias=True, mode="json"), "draws": 1}
    model = model_folder.read_config(folder.model)
    if model.image is not None:  # as it was inferred then, whatever these images are like
        found |= model.image._asdict()
    if model.audio is not None:
        found |= {"rate": model.audio.rate, "seconds": model.audio.seconds}
    own = before.data.reader
    run = str(folder.path.resolve())
    if (
        own is not None
        and own.name == "feedback"
        and Path(before.data.path).resolve() == Path(path).resolve()
    ):
        run = own.arguments[
            "run"
        ]  # it learned from these answers itself: the rows are those of the one before
    return {key: value for key, value in found.items() if key != "path"} | {
        "reader": {"name": "feedback", "run": run}
    }
