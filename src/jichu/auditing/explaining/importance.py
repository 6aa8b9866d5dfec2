"""What columns a model leans on: how much worse it is where one is shuffled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from jichu.core.randomness import generator
from jichu.data.schema import TableSchema

from .views.rows import owners


def permutation(
    columns: dict[str, Tensor], table: TableSchema, loss: Callable[[dict[str, Tensor]], np.ndarray],
    repeats: int = 5, seed: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """By how much the loss of each row rises where a column is shuffled among the rows, [repeats, N] of each column
    (Breiman, 2001; Fisher et al., 2019). The parts of a time are shuffled together."""
    before, owner = loss(columns), owners(table)
    first = columns["numbers"].shape[1] if "numbers" in columns else 0
    found = {}
    for place, name in enumerate(table.kinds):
        mine = (owner == place).nonzero()[:, 0]
        rises = []
        for repeat in range(repeats):
            order = torch.randperm(len(before), generator=generator("importance", seed, place, repeat))
            changed = dict(columns)
            for key, which in (("numbers", mine[mine < first]), ("categories", mine[mine >= first] - first)):
                if len(which):
                    changed[key] = columns[key].clone()
                    changed[key][:, which] = columns[key][order][:, which]
            rises.append(loss(changed) - before)
        found[name] = np.stack(rises)
    return found
