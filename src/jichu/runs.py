"""A finished (or interrupted) run as an object: its summary, its model, its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jichu.core.config import check, read_yaml
from jichu.core.errors import DataError, UsageError
from jichu.core.errors import unknown as unknown_name
from jichu.core.files import read_json, read_jsonl
from jichu.core.folder import RunFolder
from jichu.data.config import IN_MEMORY
from jichu.data.dataset import Dataset, load
from jichu.data.decode import UNREADABLE, decode_image
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.recipe.config import Recipe
from jichu.train.predict import embed, predict


class Run:
    """A run folder. `model` is a plain torch module; `backbone` is the user's own module, where the
    run was made with one that was given as an object."""

    def __init__(self, path: str | Path, backbone: nn.Module | None = None):
        self.folder = RunFolder.open(path)
        self.path = self.folder.path
        self._own = backbone

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def summary(self) -> dict[str, Any]:
        """Stages, seconds, metrics and the headline."""
        if not self.folder.summary.exists():
            raise UsageError(
                f"{self.path} has no summary yet", expected="a run with a finished stage; try --resume"
            )
        return read_json(self.folder.summary)

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """{name: {"value", "low", "high"}}."""
        return self.summary()["headline"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows of all stages."""
        return read_jsonl(self.folder.metrics)

    @cached_property
    def recipe(self) -> Recipe:
        """What ran."""
        return check(Recipe, read_yaml(self.folder.recipe), where=str(self.folder.recipe))

    @cached_property
    def _loaded(self) -> tuple[nn.Module, ModelConfig]:
        return model_folder.load(self.folder.model, self._own)

    @property
    def model(self) -> nn.Module:
        """The result, in evaluation mode."""
        return self._loaded[0]

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of the logits."""
        return self._loaded[1].classes

    def require_head(self) -> None:
        """UsageError where the model is a backbone alone."""
        if "label" not in self._loaded[1].heads:
            raise UsageError(
                f"the model in {self.path} has no head to predict with", expected="jichu finetune --from it"
            )

    def predict(self, items: Any) -> list[dict[str, Any]]:
        """For each image (path, bytes, array or PIL image; one or a list): its label, the probability of
        it, and those of all classes. Raises DataError for one that cannot be decoded."""
        self.require_head()
        names, images = self._decode(items)
        logits = predict(self.model, {"image": images}, torch.arange(len(images)))
        found = []
        for name, p in zip(names, logits.softmax(1), strict=True):
            scores = dict(zip(self.classes, p.tolist(), strict=True))
            label = max(scores, key=lambda c: scores[c])
            found.append({"input": name, "label": label, "score": scores[label], "scores": scores})
        return found

    def embed(self, items: Any) -> np.ndarray:
        """Pooled features [N, D] of images."""
        _, images = self._decode(items)
        return embed(self.model, {"image": images}, torch.arange(len(images))).numpy()

    def _decode(self, items: Any) -> tuple[list[str], Tensor]:
        if isinstance(items, Tensor):
            items = items.detach().cpu().numpy()
        stacked = isinstance(items, np.ndarray) and (
            items.ndim == 4 or (items.ndim == 3 and items.shape[2] not in (1, 3, 4))
        )
        given: Sequence[Any] = items if stacked or isinstance(items, (list, tuple)) else [items]
        names, arrays = [], []
        for i, item in enumerate(given):
            name = str(item) if isinstance(item, (str, Path)) else f"input {i}"
            try:
                arrays.append(decode_image(item, self._loaded[1].preprocess))
            except UNREADABLE as error:
                raise DataError(
                    f"not an image: {error}", where=name, expected="a file Pillow opens"
                ) from None
            names.append(name)
        if not arrays:
            raise UsageError("nothing to predict", expected="at least one image")
        return names, torch.from_numpy(np.stack(arrays))

    def dataset(self, data: Any = None) -> Dataset:
        """The run's data, or other data decoded as this model wants them."""
        p = self._loaded[1].preprocess
        if isinstance(data, Dataset):
            if data.preprocess != p:
                raise UsageError(f"the data were decoded as {data.preprocess}", expected=f"{p}")
            return data
        changes: dict[str, Any] = {"size": p.size, "channels": p.channels, "resize": p.resize}
        if data is not None:
            changes["path"] = str(data) if isinstance(data, (str, Path)) else "the data given"
        config = self.recipe.data.model_copy(update=changes)
        if data is None and config.path == IN_MEMORY:
            raise UsageError("this run's data were given in memory", expected="data=…")
        return load(config.path if data is None else data, config, seed=self.recipe.seed)


def audit(
    run: Run | str | Path, data: Any = None, metrics: dict[str, Any] | None = None, split: str = "test"
) -> dict[str, Any]:
    """Measure a run's model on its held-out rows, or on other data (all labelled rows, where those come
    without splits). Classes are matched by name. Gives {"models", "classes", "primary", …}."""
    from jichu.auditing import measure, table
    from jichu.recipe.config import AuditStage
    from jichu.recipe.stages import metric_functions

    run = run if isinstance(run, Run) else Run(run)
    run.require_head()
    dataset = run.dataset(data)
    if split in dataset.splits and (data is None or dataset.splits_given):
        rows = dataset.labelled(split)
    elif data is not None and split == "test":
        rows = _labelled(dataset)
    else:
        raise unknown_name("split", split, dataset.splits)
    unknown = sorted(
        {dataset.classes[c] for c in dataset.tensors["label"][rows].unique().tolist()} - set(run.classes)
    )
    if unknown or not len(rows):
        raise DataError(
            f"the model knows no class {', '.join(unknown[:10])}"
            if unknown
            else "no labelled rows to measure on",
            expected=f"labels among {', '.join(run.classes)}",
        )
    codes = torch.tensor([run.classes.index(c) if c in run.classes else -1 for c in dataset.classes])
    truth = codes[dataset.tensors["label"][rows]]
    logits = predict(run.model, dataset.tensors, rows)
    made = table.make(run.recipe.name, 0, rows, dataset.names, truth, logits)
    return measure.measure(
        made, run.classes, metric_functions(AuditStage(), {"metrics": metrics or {}}), seed=run.recipe.seed
    )


def _labelled(dataset: Dataset) -> Tensor:
    if "label" not in dataset.tensors:
        raise DataError(f"no labels in {dataset.source}", expected="class folders, or a label column")
    return (dataset.tensors["label"] >= 0).nonzero()[:, 0]
