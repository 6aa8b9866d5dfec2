"""The training rows that an input is most like, to the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jichu.core.errors import UsageError
from jichu.metrics.similarity import nearest

from .examples import Example, examples
from .seen import Seen

_MOST = 1000


@dataclass(frozen=True)
class Neighbour:
    """A training row, and how far it is: one less the cosine of the features, from 0 to 2."""

    distance: float
    example: Example

    def plain(self, whole: bool = False) -> dict[str, Any]:
        """Ready for JSON."""
        return {"distance": self.distance, **self.example.plain(whole)}


def neighbours(
    seen: Seen, features: np.ndarray, k: int = 8, among: np.ndarray | None = None
) -> list[list[Neighbour]]:
    """The k nearest of each of the features [Q, D], the nearest first; among [n] says which of the training rows that are
    looked at may be taken."""
    if not 1 <= k <= _MOST:
        raise UsageError(f"{k} neighbours", where="k", expected=f"from 1 to {_MOST:,}")
    rows, known = seen.rows("train"), seen.features("train")
    if among is not None:
        rows, known = rows[torch.from_numpy(among)], known[among]
    places, distances = nearest(known, features, k)
    return [
        [
            Neighbour(float(distance), example)
            for distance, example in zip(
                far, examples(seen.dataset, rows[mine], ["train"] * len(mine)), strict=True
            )
        ]
        for mine, far in zip(places, distances, strict=True)
    ]
