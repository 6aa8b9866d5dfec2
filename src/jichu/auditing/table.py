"""The table of predictions: one row for each held-out record, model and draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.files import replacing
from jichu.metrics.classification import log_loss


def make(stage: str, draw: int, rows: Tensor, names: list[str], truth: Tensor, logits: Tensor) -> pa.Table:
    """From logits [N, K] and true codes [N]. `score` is the probability of the predicted class, `loss`
    minus the log of the true one's."""
    probabilities = torch.softmax(logits.double(), 1).numpy()
    predicted = probabilities.argmax(1)
    codes = truth.numpy()
    return pa.table(
        {
            "stage": pa.array([stage] * len(rows)).dictionary_encode(),
            "draw": pa.array(np.full(len(rows), draw, np.int32)),
            "row": pa.array(rows.numpy()),
            "record": [names[i] for i in rows.tolist()],
            "truth": codes,
            "prediction": predicted,
            "score": probabilities.max(1),
            "loss": log_loss.per_row(codes, probabilities),
            "probabilities": pa.FixedSizeListArray.from_arrays(probabilities.ravel(), probabilities.shape[1]),
        }
    )


def write(path: Path, table: pa.Table) -> None:
    """Write Parquet atomically."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read(path: Path) -> pa.Table:
    """Read a table of predictions."""
    if not path.exists():
        raise UsageError(f"no predictions at {path}", expected="a run with a finetune stage")
    return pq.read_table(path)


def of_stage(table: pa.Table, stage: str) -> pa.Table:
    """The rows of one stage, draw after draw."""
    return table.filter(pc.equal(table["stage"].cast(pa.string()), stage))


def scores(table: pa.Table, stage: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows [N], truth [N] and probabilities [D, N, K] of one stage over its draws."""
    mine = of_stage(table, stage)
    draws = np.unique(mine["draw"].to_numpy())
    count = len(mine) // len(draws)
    flat = mine["probabilities"].combine_chunks().flatten().to_numpy()
    rows, truth = mine["row"].to_numpy()[:count], mine["truth"].to_numpy()[:count]
    return rows, truth, flat.reshape(len(draws), count, -1)
