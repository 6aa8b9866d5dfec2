"""Batches in which every row stands by chance, as differential privacy counts on it."""

from __future__ import annotations

import secrets
from typing import Any

import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.randomness import generator
from jichu.core.ranks import world_size

from .batches import Batches


class PoissonBatches(Batches):
    """Each row is in each batch with probability `rate`, batch_size / rows, independently of all others; so batches differ
    in size, and one may have no row. What is drawn is a function of the `secret`, which nobody must know who is to be kept
    from telling what is in the data; it is kept with the position alone, to go on from there."""

    even = False

    def __init__(
        self, tensors: dict[str, Tensor], rows: Tensor, *, batch_size: int, secret: int | None = None, **order: Any
    ):  # fmt: skip
        if world_size() > 1:
            raise UsageError("private training is for one process", where="privacy", expected="no torchrun")
        super().__init__(tensors, rows, batch_size=batch_size, seed=order.get("seed", 0))
        self.secret = secrets.randbits(62) if secret is None else secret
        self.rate = self.batch_size / len(self.rows)

    def take(self) -> Tensor:
        drawn = torch.rand(
            len(self.rows), generator=generator("poisson", self.secret, self.epoch, self.index)
        )
        self.index += 1
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0
        return self.rows[drawn < self.rate]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "index": self.index, "secret": self.secret}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.index, self.secret = state["epoch"], state["index"], state["secret"]
