"""What is kept of a request that was answered, as columns: what the model read, what it said, and what it saw in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jichu.data import requests
from jichu.data.given import Inputs
from jichu.data.media import KINDS
from jichu.data.personal import without
from jichu.data.pictures import png
from jichu.data.texts import TEXT, TEXT_2
from jichu.data.traits import header, of_images, of_sounds, sizes

_SIDE = 32  # pixels of a thumbnail


@dataclass(frozen=True)
class Answered:
    """What a model said of the rows of a request; by target its scores [N, K], and the features [N, D], where it has such."""

    rows: list[dict[str, Any]]
    scores: dict[str, np.ndarray]
    features: np.ndarray | None = None


@dataclass(frozen=True)
class Asked:
    """A request with its answer, and which of its rows are kept. `read` is what was made of the items before."""

    time: datetime
    request: str
    rows: list[int]
    model: str
    version: str
    kind: str
    config: Any
    items: list[Any]
    read: Any
    answered: Answered
    size: int  # bytes, about


def table(asked: Asked, media: str) -> pa.Table:
    """The rows that are kept. Of images and sounds `media` says what stays: a "thumbnail" of the image, or the "whole"."""
    count = len(asked.rows)
    columns: dict[str, Any] = {
        requests.TIME: pa.array([asked.time] * count, pa.timestamp("us", "UTC")),
        requests.REQUEST: pa.array([asked.request] * count, pa.string()),
        requests.ROW: pa.array(asked.rows, pa.int32()),
        requests.VERSION: pa.array([asked.version] * count, pa.string()),
    }
    columns |= _seen(asked, media) if asked.kind in KINDS else _read(asked)
    columns |= _said(asked)
    if asked.answered.features is not None:
        columns[requests.EMBEDDING] = _lists(asked.answered.features[asked.rows])
    return pa.table(columns)


def _read(asked: Asked) -> dict[str, pa.Array]:
    """The columns of a table that the model looks at, and no others; or the texts. Personal data are taken out."""
    if asked.kind == "text":
        rows = [asked.items[row] for row in asked.rows]
        parts = [(item,) if isinstance(item, str) else item for item in rows]
        return {
            requests.INPUT + name: pa.array([without(part[i]) for part in parts], pa.string())
            for i, name in enumerate(text_names(asked.config.text))
        }
    assert isinstance(asked.read, Inputs)
    found = {}
    for name in asked.config.table.kinds:
        column = asked.read.columns[name]
        cells = requests.plain(column, asked.rows)
        kinds = {"category": pa.string(), "timestamp": pa.timestamp("s")}
        if column.kind == "category":
            cells = [cell and without(cell) for cell in cells]
        found[requests.INPUT + name] = pa.array(cells, kinds.get(column.kind, pa.float64()))
    return found


def text_names(inputs: Any) -> tuple[str, ...]:
    """What the texts that a model reads are called."""
    count = 1 + inputs.pair
    return tuple(inputs.columns) if len(inputs.columns) == count else (TEXT, TEXT_2)[:count]


def _seen(asked: Asked, media: str) -> dict[str, pa.Array]:
    """What can be said of images and sounds, and something or all of them."""
    rows, kind = torch.tensor(asked.rows), asked.kind
    tensor = torch.as_tensor(asked.read.tensors[kind])
    traits: dict[str, Any] = (of_images if kind == "image" else of_sounds)(tensor, rows)
    encoded = [asked.items[row] for row in asked.rows]
    traits |= sizes(kind, [header(kind, item) for item in encoded])
    found = {requests.TRAIT + name: pa.array(values, pa.float64()) for name, values in traits.items()}
    if media == "whole":
        found[requests.INPUT + kind] = pa.array(encoded, pa.binary())
    elif kind == "image" and media == "thumbnail":
        found["thumbnail"] = pa.array([png(tensor[row], _SIDE) for row in asked.rows], pa.binary())
    return found


def _said(asked: Asked) -> dict[str, pa.Array]:
    """By target the answer, and the scores of the model alone."""
    found = {}
    for key, target in asked.config.targets.items():
        told = [_answer(asked.answered.rows[row], target.column) for row in asked.rows]
        found[requests.PREDICTION + target.column] = pa.array(told)
        if key in asked.answered.scores:
            found[requests.SCORES + target.column] = _lists(asked.answered.scores[key][asked.rows])
    return found


def _answer(row: dict[str, Any], column: str) -> Any:
    """The label, the tags, the number or the text that was answered."""
    answer = row.get(column, row)
    if isinstance(answer, str):
        return without(answer)
    return next(answer[key] for key in ("label", "tags", "value") if key in answer)


def _lists(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]).cast(pa.list_(pa.float32()))
