"""The features of all rows of data, in a file that other tools read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.files import replacing
from jichu.core.progress import task
from jichu.core.ranks import world_size
from jichu.data.dataset import Dataset
from jichu.data.target import Target
from jichu.data.truth import values_of
from jichu.runs import Run
from jichu.train.predict import embed

_ROWS = 8192  # of a row group


def write(run: Run, data: Any, path: str | Path) -> dict[str, Any]:
    """Write the features of every usable row of data, by default the run's own, as Parquet: `record` (its file, or
    file and line), `split`, each target's value, and `embedding`, a list of float32. Gives rows, width and path.

    Raises UsageError where the features are counts of words, or several processes are started."""
    if world_size() > 1:
        raise UsageError(f"{world_size()} processes", expected="one: embeddings are written by one")
    dataset = run.dataset(data)
    splits = {name: rows for name, rows in dataset.splits.items() if len(rows)}
    parts = [(name, rows.sort().values) for name, rows in splits.items()]
    if data is not None and not dataset.splits_given:  # splits are drawn, which says nothing of other data
        parts = [("all", torch.cat(list(splits.values())).sort().values)]
    count, width = sum(len(rows) for _, rows in parts), 0
    if not count:
        raise UsageError(f"no rows in {dataset.source}", expected="at least one")
    with replacing(path) as temporary, task("embed", count) as shown, contextlib.ExitStack() as opened:
        writer: pq.ParquetWriter | None = None
        for table in _tables(run, dataset, parts):
            writer = writer or opened.enter_context(pq.ParquetWriter(temporary, table.schema))
            writer.write_table(table)
            width = table.schema.field("embedding").type.list_size
            shown.advance(table.num_rows)
    return {"rows": count, "width": width, "path": str(path)}


def _tables(run: Run, dataset: Dataset, parts: list[tuple[str, Tensor]]) -> Iterator[pa.Table]:
    for split, rows in parts:
        for piece in rows.split(_ROWS):
            features = embed(run.model, dataset.tensors, piece)
            if features.is_sparse:
                raise UsageError(
                    f"the features of {run.path} are counts of words", expected="a run with a network"
                )
            columns: dict[str, Any] = {
                "record": [dataset.names[row] for row in piece.tolist()],
                "split": pa.array([split] * len(piece)).dictionary_encode(),
            }
            for key, target in dataset.targets.items():
                if key in dataset.tensors and target.task != "forecast":
                    taken = target.column in ("record", "split", "embedding")
                    columns[f"{target.column} (target)" if taken else target.column] = _values(
                        target, dataset.tensors[key][piece], dataset.known(piece, key)
                    )
            flat = pa.array(features.contiguous().view(-1).numpy(), pa.float32())
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
            yield pa.table(columns)


def _values(target: Target, values: Tensor, known: Tensor) -> pa.Array:
    """A target's values as they were in the data; null where there is none."""
    kinds = {"classification": pa.string(), "multilabel": pa.list_(pa.string())}
    return pa.array(values_of(target, values, known), kinds.get(target.task, pa.float64()))
