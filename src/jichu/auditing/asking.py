"""What a model alone says of rows: its outputs as answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from jichu.data.target import Target
from jichu.train.predict import POOLED, predict

from .table import answers


def ask(
    model: nn.Module, targets: Mapping[str, Target], tensors: dict[str, Tensor], rows: Tensor
) -> dict[str, np.ndarray]:
    """By target probabilities [N, K], or numbers [N, Q]."""
    outputs = predict(model, tensors, rows, list(targets))
    return {key: answers(target, outputs[key]) for key, target in targets.items()}


def ask_and_look(
    model: nn.Module, targets: Mapping[str, Target], tensors: dict[str, Tensor], rows: Tensor
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The answers, and of the same look the pooled features [N, D]; None where these are counts of words."""
    outputs = predict(model, tensors, rows, list(targets), pooled=True)
    pooled = outputs.pop(POOLED)
    said = {key: answers(target, outputs[key]) for key, target in targets.items()}
    return said, None if pooled.is_sparse else pooled.numpy()
