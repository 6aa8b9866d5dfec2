"""The verbs in Python, with the keys and defaults of the command line."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from jichu.auditing.gates import require
from jichu.core.config import check
from jichu.core.errors import UsageError
from jichu.core.names import import_path
from jichu.data.config import IN_MEMORY, DataConfig
from jichu.data.dataset import Dataset
from jichu.data.inspection import inspect as look_into
from jichu.data.load import load as _load
from jichu.recipe.config import one_stage, read_recipe
from jichu.recipe.corrected import finetuning
from jichu.recipe.origins import compression
from jichu.recipe.run import execute
from jichu.runs import Run
from jichu.tradeoffs import Searched, search


def load(data: Any, *, seed: int = 0, **config: Any) -> Dataset:
    """Read, decode, clean and split: a folder, a file, `sklearn:digits`, or arrays (images, labels).

    Keywords are those of `data:` in a recipe (size, channels, resize, split, …).
    """
    path = str(data) if isinstance(data, (str, Path)) else IN_MEMORY
    return _load(data, check(DataConfig, {"path": path, **config}, where="load"), seed=seed)


def inspect(data: Any, **config: Any) -> dict[str, Any]:
    """Schema, counts, sizes, duplicates, suspected leakage and unusable records, as a dict."""
    return look_into(data if isinstance(data, Dataset) else load(data, **config))


def run(recipe: str | Path, *, set: dict[str, Any] | None = None, resume: bool = False) -> Run:
    """Run a recipe, a file or the name of a shipped one; `set` holds {"a.b": value}. Raises CheckFailed, the run being
    complete, where a gate of its audit does not hold."""
    assignments = [f"{key}={json.dumps(value)}" for key, value in (set or {}).items()]
    made = Run(execute(read_recipe(str(recipe), assignments), resume=resume).path)
    require([gate for stage in made.summary()["stages"] for gate in stage.get("gates", [])], made.path)
    return made


def pretrain(data: Any, *, backbone: str | nn.Module | None = None, **settings: Any) -> Run:
    """Train a backbone without labels. Keywords are those of a pretrain stage (objective, budget,
    augment, batch_size, optimizer, …), and `name`, `seed`, `resume`, `size`, `channels`, `split`."""
    return _verb("pretrain", data, {"backbone": backbone, **settings} if backbone is not None else settings)


def finetune(start: Run | str | Path | nn.Module, data: Any, **settings: Any) -> Run:
    """Fit to labels, from a run, a backbone's name or a module. Keywords are those of a finetune stage
    (adapt, head, budget, …), and `metrics` {name: function(truth [N], probabilities [N, K])},
    `labels_per_class`, `labels_share`, `draws`, `rules` (as in a recipe), `name`, `seed`, `resume`, `size`, `channels`, `split`."""
    if isinstance(start, nn.Module):
        return _verb("finetune", data, {"backbone": start, **settings})
    if isinstance(start, Run):
        own = {"backbone": start._own} if start._own is not None else {}
        return _verb("finetune", data, {"from": str(start.path), **settings}, own)
    key = "from" if os.path.exists(start) else "backbone"
    return _verb("finetune", data, {key: str(start), **settings})


def compress(
    start: Run | str | Path, data: Any = None, *, target: str | None = None, **settings: Any
) -> Run | Searched:
    """Make the model of a run smaller by `steps`, [{"name": "structured", "amount": 0.5}, …], and train it again for a
    `budget`. Keywords are those of a compress stage, and `name`, `resume` and `metrics`. The data are those of the run; of
    a run on data that were given in Python they are to be given again. With a `target` such as "size=0.25" steps and bits
    are searched for; keywords are then those of `jichu.tradeoffs.search`."""
    if target is not None:
        if "steps" in settings:
            raise UsageError("steps, and a target by which steps are chosen", expected="one of them")
        return search(start, target, data=data, **settings)
    path, own = (start.path, start._own) if isinstance(start, Run) else (start, None)
    objects = {"metrics": settings.pop("metrics", None), "backbone": own}
    name, resume = settings.pop("name", None), settings.pop("resume", False)
    recipe = compression(str(path), settings, name=name)
    if data is None and recipe.data.path == IN_MEMORY:
        raise UsageError("this run's data were given in memory", expected="data=…")
    given = {key: value for key, value in objects.items() if value is not None}
    return Run(execute(recipe, resume=resume, data=data, objects=given).path, own)


def _verb(verb: str, data: Any, settings: dict[str, Any], objects: dict[str, Any] | None = None) -> Run:
    objects = objects or {}
    outer = {k: settings.pop(k) for k in ("name", "seed", "rules") if k in settings}
    resume = settings.pop("resume", False)
    metrics = settings.pop("metrics", None)
    if isinstance(settings.get("backbone"), nn.Module):
        objects["backbone"] = settings["backbone"]
        settings["backbone"] = {"name": import_path(settings["backbone"])}
    if metrics:
        objects["metrics"] = metrics
    inner = {k: settings.pop(k) for k in set(DataConfig.model_fields) & set(settings)}
    if isinstance(data, Dataset) and (idle := set(inner) - {"labels_per_class", "labels_share", "draws"}):
        raise UsageError(
            f"{sorted(idle)[0]} was decided when the data were loaded", expected="it in jichu.load"
        )
    path = str(data) if isinstance(data, (str, Path)) else IN_MEMORY
    make = finetuning if verb == "finetune" else partial(one_stage, verb)
    recipe = make(path, settings, data=inner, **outer)
    folder = execute(recipe, resume=resume, data=None if path != IN_MEMORY else data, objects=objects)
    return Run(folder.path, objects.get("backbone"))
