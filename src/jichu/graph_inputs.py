"""Rows of a run as its exported graph is given them: to prove it, to see ranges of activations, to measure its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jichu.audits import held_out, metrics_of
from jichu.core.errors import DataError, UsageError
from jichu.data.batches import gather
from jichu.data.config import IN_MEMORY
from jichu.data.dataset import Dataset
from jichu.data.schema import LABEL
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.runs import Run
from jichu.ship.export.base import Arrays, Batch
from jichu.ship.export.program import LEAST, LEAST_WRITTEN, Shapes
from jichu.ship.measured import Inputs
from jichu.ship.scores import Held

_AT_ONCE = 64  # rows
_ALONE = 8  # rows that are timed one by one


def proof_rows(dataset: Dataset, most: int) -> list[Tensor]:
    """Held-out rows: one, two, and then the others together, so that the dimensions that vary do."""
    split = next((s for s in ("test", "validation", "train") if len(dataset.splits.get(s, ()))), None)
    if split is None:
        raise DataError("no row to run the export on", expected="one at least")
    rows = evenly(dataset.splits[split], most)
    return [part for part in (rows[:1], rows[1:3], rows[3:]) if len(part)]


def batches(dataset: Dataset, parts: list[Tensor], dims: Shapes, context: int) -> list[Batch]:
    """The inputs of a graph for each part of the rows."""
    columns = {name: dataset.tensors[name] for name in dims if name in dataset.tensors}
    if missing := next((name for name in dims if name not in columns and name != "answer"), None):
        raise DataError(f"the data have no {missing}, which the model reads", expected="data like the run's")
    return [_as_read(gather(columns, part), dims, context) for part in parts]


def calibration(run: Run, dims: Shapes, data: Any, count: int) -> Iterator[Arrays]:
    """At most so many training rows of a run, evenly spread, in batches; of the data given where its own are not kept.
    DataError where there are none."""
    dataset = run.dataset(data if run.recipe.data.path == IN_MEMORY else None)
    rows = dataset.splits.get("train", torch.empty(0, dtype=torch.int64))
    if not len(rows):
        raise DataError("no training rows to see ranges of activations on", expected="one at least")
    return iter(_arrays(run, dataset, list(evenly(rows, count).split(_AT_ONCE)), dims))


def timing(run: Run, dims: Shapes, data: Any, batch_size: int) -> Inputs:
    """Rows to time a graph with: eight alone, and a batch; repeated where there are too few."""
    dataset = run.dataset(data)
    rows = torch.cat(
        [dataset.splits[name] for name in ("test", "validation", "train") if name in dataset.splits]
    )
    rows = rows[torch.arange(max(batch_size, _ALONE)) % len(rows)]
    *alone, batch = _arrays(run, dataset, [*rows[:_ALONE].split(1), rows[:batch_size]], dims)
    return Inputs(alone, batch)


def held(
    run: Run, dims: Shapes, data: Any = None, splits: Sequence[str] = ("test", "validation"), part: slice = slice(None)
) -> Held:  # fmt: skip
    """The labelled rows of the first split that there is, or a `part` of them, and the first metric of the run's audit that
    is for its first target. UsageError where the run's model has no score to lose, DataError where there are no such
    rows."""
    target = run.targets.get(LABEL)
    if target is None or target.task == "text":
        raise UsageError(
            "the model tells no target by which it could be seen what fewer bits cost",
            where=run.path, expected="a run with a head; of language models --to gguf, and llama-quantize",
        )  # fmt: skip
    dataset = run.dataset(data)
    split = next((s for s in splits if s in dataset.splits and len(dataset.labelled(s))), splits[0])
    if data is None and split not in dataset.splits:
        raise DataError(
            "no held-out rows with a label to compare on", where=run.path,
            expected=f"data.split.{splits[0]} in its recipe, or --data",
        )  # fmt: skip
    dataset, rows = held_out(run, data, split)
    rows = rows[_whole(dataset, rows, target)][part]
    if not len(rows):
        raise DataError(f"{split} has too few rows with a label to compare on", expected="more of them")
    truth = dataset.tensors[LABEL][rows].numpy()
    if target.task == "forecast":
        truth = ((truth - np.array(target.means)) / np.array(target.stds)).reshape(len(truth), -1)
    if target.task == "multilabel":
        truth = truth.astype(np.int64)
    name, metric = next(iter(metrics_of(run, target).items()))
    return Held(_arrays(run, dataset, list(rows.split(_AT_ONCE)), dims), LABEL, target, truth, name, metric)


def _whole(dataset: Dataset, rows: Tensor, target: Target) -> Tensor:
    """Which rows have a whole value: tags that are known in part cannot be measured as one."""
    if target.task == "multilabel":
        return ~dataset.tensors[LABEL][rows].isnan().any(1)
    return dataset.known(rows)


def _arrays(run: Run, dataset: Dataset, parts: list[Tensor], dims: Shapes) -> list[Arrays]:
    text = run.config.text
    given = batches(dataset, parts, dims, text.context if text else 0)
    return [{name: values.numpy() for name, values in batch.items()} for batch in given]


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
