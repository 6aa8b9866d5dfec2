"""The table of predictions: one row for each held-out record, model and draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jichu.core.errors import CheckFailed, UsageError
from jichu.core.files import read_table
from jichu.data.source import Names
from jichu.data.target import Target


def make(
    stage: str, draw: int, rows: Tensor, names: Sequence[str], target: Target, truth: Tensor, outputs: Tensor
) -> pa.Table:  # fmt: skip
    """From a head's outputs [N, K] and the true values. `scores` are probabilities of the classes or tags,
    or the predicted numbers (of a forecast step after step); `loss` is minus the log of the true class's, the mean of
    that over tags, the squared error, or its mean over a forecast in units of deviations."""
    scores, true = answers(target, outputs), truth.numpy()
    about: dict[str, Any]
    if target.task == "classification":
        about = {
            "truth": true, "prediction": scores.argmax(1), "score": scores.max(1),
            "loss": -np.log(np.clip(scores[np.arange(len(true)), true], 1e-15, None)),
        }  # fmt: skip
    elif target.task == "multilabel":
        known = np.where(np.isnan(true), 0.5, true)
        loss = -(
            known * np.log(np.clip(scores, 1e-15, None))
            + (1 - known) * np.log(np.clip(1 - scores, 1e-15, None))
        )
        about = {
            "truth": _lists(true),
            "prediction": _lists((scores > 0.5).astype(np.int8)),
            "loss": loss.mean(1),
        }
    elif target.task == "forecast":
        std = scale(target)[1]
        true = true.reshape(len(true), -1).astype(np.float64)
        error = np.square((scores - true) / std)
        there = ~np.isnan(error)
        loss = np.where(there, error, 0).sum(1) / np.maximum(1, there.sum(1))
        about = {"truth": _lists(true.astype(np.float32)), "loss": loss}
        scores = scores.astype(np.float32)
    else:
        middle = scores[:, target.point]
        about = {"truth": true.astype(np.float64), "prediction": middle, "loss": (middle - true) ** 2}
    return pa.table(
        {
            "stage": pa.array([stage] * len(rows)).dictionary_encode(),
            "draw": pa.array(np.full(len(rows), draw, np.int32)),
            "row": pa.array(rows.numpy()),
            "record": Names(names).take(rows).cells.cast(pa.string()),
            **about,
            "scores": _lists(scores),
        }
    )


def of_language(
    stage: str, rows: Tensor, records: Sequence[str], sizes: Tensor, nats: Tensor,
    answers: tuple[Sequence[str], Sequence[str], Sequence[bool]] | None = None,
) -> pa.Table:  # fmt: skip
    """Of windows of texts, or of answers [N]: `sizes` [N, 2] are tokens predicted and bytes, `nats` [N] minus
    the logarithm of their likelihood; `answers` those that are right, those that were written, and whether
    they are the same."""
    numbers = [sizes.double().numpy(), nats.double().numpy()[:, None]]
    if answers is None:
        about = {"truth": _lists(numbers[0]), "scores": _lists(numbers[1])}
    else:
        truth, written, right = answers
        about = {
            "truth": pa.array(truth, pa.string()), "prediction": pa.array(written, pa.string()),
            "scores": _lists(np.concatenate([*numbers, np.array(right, np.float64)[:, None]], 1)),
        }  # fmt: skip
    return pa.table(
        {
            "stage": pa.array([stage] * len(rows)).dictionary_encode(),
            "draw": pa.array(np.zeros(len(rows), np.int32)),
            "row": pa.array(rows.numpy()),
            "record": pa.array(records, pa.string()),
            "loss": (nats / sizes[:, 0].clamp(min=1)).double().numpy(),
            **about,
        }
    )


def answers(target: Target, outputs: Tensor) -> np.ndarray:
    """A head's outputs [N, K] as probabilities, or as numbers in the target's own units."""
    outputs = outputs.double().flatten(1) if outputs.ndim > 1 else outputs.double()[:, None]
    if target.task == "classification":
        return torch.softmax(outputs / target.temperature, 1).numpy()
    if target.task == "multilabel":
        return torch.sigmoid(outputs).numpy()
    if target.task == "forecast":
        mean, std = scale(target)
        return outputs.numpy() * std + mean
    return (outputs * target.std + target.mean).numpy()


def scale(target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [steps × columns] of what is forecast, step after step."""
    return np.tile(target.means, target.steps), np.tile(target.stds, target.steps)


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(values).ravel(), values.shape[1])


def read(path: Path) -> pa.Table:
    """Read a table of predictions."""
    if not path.exists():
        raise UsageError(f"no predictions at {path}", expected="a run with a finetune stage")
    return read_table(path)


def of_stage(table: pa.Table, stage: str) -> pa.Table:
    """The rows of one stage, draw after draw."""
    return table.filter(pc.equal(table["stage"].cast(pa.string()), stage))


def require_finite(table: pa.Table, stage: str) -> None:
    """CheckFailed where a stage's answer to a row is no finite number: no figure means anything then."""
    mine = of_stage(table, stage)
    bad = ~np.isfinite(_numpy(mine["scores"])).reshape(len(mine), -1).all(1)
    if bad.any():
        raise CheckFailed(
            f"{stage} gives no finite answer to {bad.sum():,} of {len(mine):,} held-out rows",
            where=mine["record"][int(bad.argmax())].as_py(),
            expected="finite numbers; its weights, or these inputs, hold NaN or are too large",
        )


def scores(table: pa.Table, stage: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows [N], truth [N] or [N, K], and scores [D, N, K] of one stage over its draws."""
    mine = of_stage(table, stage)
    draws = np.unique(mine["draw"].to_numpy())
    count = len(mine) // max(1, len(draws))
    found = _numpy(mine["scores"])
    truth = _numpy(mine["truth"])
    return mine["row"].to_numpy()[:count], truth[:count], found.reshape(len(draws), count, -1)


def predictions(table: pa.Table, stage: str) -> np.ndarray:
    """Predicted numbers [D, N] of one stage over its draws."""
    mine = of_stage(table, stage)
    return mine["prediction"].to_numpy().reshape(len(np.unique(mine["draw"].to_numpy())), -1)


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
