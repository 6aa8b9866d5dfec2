"""The protocol: prepare a batch, call the model, give one unreduced loss for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from jichu.core.randomness import derive, row_uniform
from jichu.data.config import AugmentConfig
from jichu.data.target import Target

Batch = dict[str, Tensor]
Losses = Tensor | dict[str, Tensor]
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Context:
    """Where training is, and the random numbers that belong there."""

    seed: int
    step: int = 0
    steps: int = 1
    # after the step: each term's loss, of this process
    terms: dict[str, Tensor] = field(default_factory=dict, compare=False)

    @property
    def progress(self) -> float:
        """Share of the steps done, 0 to 1."""
        return self.step / self.steps

    def uniform(self, rows: Tensor, n: int, salt: str) -> Tensor:
        """[B, n] in [0, 1), a function of (seed, step, row): the same in whatever batch a row is."""
        return row_uniform(rows, n, self.seed, self.step, salt)

    def again(self, salt: str) -> Context:
        """The same place with random numbers of its own."""
        return replace(self, seed=derive(self.seed, salt))

    def for_rows(self, rows: Tensor, prefix: str = "") -> Callable[[int, str], Tensor]:
        """`uniform` with the rows filled in, as augmentation takes it."""
        return lambda n, salt: self.uniform(rows, n, prefix + salt)


class Objective(nn.Module):
    """Base of every objective; the common one writes `losses` alone.

    A term's loss is sum(weight × per-row loss) / sum(weight), the sums going over all micro-batches
    and processes; a term that has no rows is a scalar. `independent` is False where the loss of a
    row depends on the other rows of its batch; `cached` is True where that is so in `losses` alone, and
    `forward` gives a dict of tensors with a row each: then a batch of any size is made of micro-batches, whose
    outputs are kept and compared together. Parameters of the objective (a projector) are trained
    with the model's; what must be kept but not trained (a teacher) are buffers. `task` is that of the
    targets that it learns, PRETRAINING where it needs none, None where it does not say; `kinds` are the
    kinds of data that it is for, any if there are none, and `suits` the augmentation, where it is not the usual.
    `unlabelled` is how many rows whose label is not known it wants beside each whose label is.
    """

    independent = True
    cached = False
    task: str | None = None
    kinds: tuple[str, ...] = ()  # image, table, text
    unlabelled = 0
    suits: AugmentConfig | None = None

    @property
    def divisible(self) -> bool:
        """Whether a batch may be cut into micro-batches to the same effect."""
        return self.independent or self.cached

    def answer(self, key: str, target: Target) -> Target:
        """What the head `key` has to give for a target (`outputs`, and of what)."""
        return target

    def bind(self, model: nn.Module, batch: Batch) -> None:
        """Called once before training, with a sample batch, to size the objective's own parts."""

    def prepare(self, batch: Batch, context: Context) -> Batch:
        """Views, masks, weights; all randomness from the context."""
        return batch

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """Non-negative weights [B] of each term that has rows, from the prepared batch alone."""
        return {"loss": row_weight(batch)}

    def scales(self) -> Mapping[str, float | Tensor]:
        """What each term is multiplied by in the sum, a number or a scalar; 1 where it is not named."""
        return {}

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Call the model as a whole, once or more."""
        return model(batch)

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        """Row losses [B] by term, or one tensor [B] for the only term, named `loss`."""
        raise NotImplementedError(f"{type(self).__name__}.losses")

    def diagnose(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Numbers worth a look, computed when a line is logged (effective rank, for one)."""
        return {}

    def after_step(self, model: nn.Module, context: Context) -> None:
        """Called once after each optimizer step (a teacher's moving average)."""


def row_weight(batch: Batch) -> Tensor:
    """The batch's `weight` column, or ones [B]."""
    if "weight" in batch:
        return batch["weight"].float()
    return torch.ones(len(batch["row"]), device=batch["row"].device)


def as_terms(losses: Losses) -> dict[str, Tensor]:
    """Losses by term."""
    return {"loss": losses} if isinstance(losses, Tensor) else losses
