"""What is known of a target's values, as it stood in the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .target import Target


def values_of(target: Target, values: Tensor, known: Tensor) -> list[Any]:
    """Of each row the name of its class, its tags, or its number; None where nothing is known of it."""
    classes = target.classes
    told: dict[str, Callable[[Any], Any]] = {
        "classification": lambda code: classes[code],
        "multilabel": lambda row: [name for name, there in zip(classes, row, strict=True) if there == 1],
    }
    tell = told.get(target.task, float)
    pairs = zip(values.tolist(), known.tolist(), strict=True)
    return [tell(value) if there else None for value, there in pairs]
