"""The table of predictions: one row for each held-out record, model and draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from jichu.core.errors import DataError, UsageError
from jichu.core.files import replacing
from jichu.data.target import Target


def make(
    stage: str, draw: int, rows: Tensor, names: list[str], target: Target, truth: Tensor, outputs: Tensor
) -> pa.Table:  # fmt: skip
    """From a head's outputs [N, K] and the true values. `scores` are probabilities of the classes or tags,
    or the predicted numbers; `loss` is minus the log of the true class's, the mean of that over tags, or
    the squared error."""
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
    else:
        middle = scores[:, point(target)]
        about = {"truth": true.astype(np.float64), "prediction": middle, "loss": (middle - true) ** 2}
    return pa.table(
        {
            "stage": pa.array([stage] * len(rows)).dictionary_encode(),
            "draw": pa.array(np.full(len(rows), draw, np.int32)),
            "row": pa.array(rows.numpy()),
            "record": pa.array([names[i] for i in rows.tolist()], pa.string()),
            **about,
            "scores": _lists(scores),
        }
    )


def answers(target: Target, outputs: Tensor) -> np.ndarray:
    """A head's outputs [N, K] as probabilities, or as numbers in the target's own units."""
    outputs = outputs.double().flatten(1) if outputs.ndim > 1 else outputs.double()[:, None]
    if target.task == "classification":
        return torch.softmax(outputs, 1).numpy()
    if target.task == "multilabel":
        return torch.sigmoid(outputs).numpy()
    return (outputs * target.std + target.mean).numpy()


def point(target: Target) -> int:
    """Which of a number's quantiles is the prediction: the one nearest to the middle."""
    return int(np.argmin(np.abs(np.array(target.quantiles or (0.5,)) - 0.5)))


def _lists(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(values).ravel(), values.shape[1])


def write(path: Path, table: pa.Table) -> None:
    """Write Parquet atomically."""
    with replacing(path, table.nbytes) as temporary:
        pq.write_table(table, temporary)


def read(path: Path) -> pa.Table:
    """Read a table of predictions."""
    if not path.exists():
        raise UsageError(f"no predictions at {path}", expected="a run with a finetune stage")
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"damaged: {error}", where=path, expected="the table as it was written") from None


def of_stage(table: pa.Table, stage: str) -> pa.Table:
    """The rows of one stage, draw after draw."""
    return table.filter(pc.equal(table["stage"].cast(pa.string()), stage))


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
