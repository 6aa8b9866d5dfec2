"""An objective's own losses on rows held out from training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.core.ranks import gather_objects
from jichu.data.batches import Batch
from jichu.models.modes import evaluating
from jichu.objectives.base import Context, Objective, as_terms
from jichu.objectives.language import Language


class RowLosses(NamedTuple):
    """Of each row its number, its loss and its weight, [N] on the processor."""

    rows: Tensor
    losses: Tensor
    weights: Tensor

    @property
    def mean(self) -> float:
        """The weighted mean: what training lowers."""
        return float((self.losses * self.weights).sum() / self.weights.sum().clamp(min=1e-12))


def token_nats(model: nn.Module, objective: Language, batches: Iterable[Batch]) -> list[Tensor]:
    """Of each row, in the order of the batches, minus the logarithm of the probability of each token that is predicted,
    [T] on the processor."""
    found: list[Tensor] = []
    with evaluating(model) as device:
        for batch in batches:
            ready = objective.prepare({n: t.to(device) for n, t in batch.items()}, Context(0))
            logits = objective(model, ready)[objective.head].float()
            nats = F.cross_entropy(logits, ready["truth"][ready["predicted"]], reduction="none")
            found += nats.double().cpu().split(ready["predicted"].sum(1).tolist())
    return found


def row_losses(
    model: nn.Module, objective: Objective, batches: Iterable[Batch], *, seed: int = 0
) -> RowLosses:
    """The row losses of an objective of one term, of the batches of all processes. What the objective
    draws at random it draws alike each time."""
    parts: list[RowLosses] = []
    with evaluating(model) as device:
        for batch in batches:
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            ready = objective.prepare(moved, Context(seed))
            (loss,) = as_terms(objective.losses(objective(model, ready), ready)).values()
            (weight,) = objective.weights(ready).values()
            parts.append(RowLosses(ready["row"].cpu(), loss.double().cpu(), weight.double().cpu()))
    mine = [part for share in gather_objects(parts) for part in share]
    return RowLosses(*(torch.cat(column) for column in zip(*mine, strict=True)))
