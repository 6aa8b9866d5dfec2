"""What can be said of a row of pictures, sounds or texts without a model, as columns of numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset
from .source import Column
from .texts import TEXT

_AT_ONCE = 512  # rows


def traits(dataset: Dataset, rows: Tensor) -> dict[str, Column]:
    """Of pictures brightness and contrast, the mean and deviation of their pixels, 0 to 255; of sounds loudness, the root
    of the mean square; of texts their length in bytes."""
    found: dict[str, np.ndarray] = {}
    if "image" in dataset.tensors:
        found["brightness"] = _of(dataset.tensors["image"], rows, lambda x: x.mean(1))
        found["contrast"] = _of(dataset.tensors["image"], rows, _deviation)
    if "audio" in dataset.tensors:
        found["loudness"] = _of(dataset.tensors["audio"], rows, lambda x: x.square().mean(1).sqrt())
    if TEXT in dataset.texts:
        found["length"] = dataset.texts[TEXT].lengths[rows].numpy().astype(np.float64)
    return {name: Column("number", values) for name, values in found.items()}


def _of(column: Tensor, rows: Tensor, measure: Callable[[Tensor], Tensor]) -> np.ndarray:
    parts = [measure(column[part].float().flatten(1)) for part in rows.split(_AT_ONCE)]
    return torch.cat(parts).double().numpy()


def _deviation(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)).square().mean(1).sqrt()
