"""What of an input an answer is divided among, and how a model answers where some of it is not there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jichu.core.errors import DataError, UsageError, unknown
from jichu.data.target import Target
from jichu.models.model import Model

_ROWS, _PLACES = 256, 2**21  # of a forward pass, at most
TASKS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Asked:
    """The model, its head, and the target that it predicts; `choice` is the class or tag that is to be explained, the
    likeliest of each row if none."""

    model: Model
    key: str
    target: Target
    choice: str | None = None

    def __post_init__(self) -> None:
        if self.target.task not in TASKS or self.key not in self.model.heads:
            raise UsageError(
                f"{self.target.column} is not explained", expected="a model of classes, of tags or of numbers"
            )
        if self.choice is not None and self.target.task == "regression":
            raise UsageError(
                f"{self.target.column} is a number and has no class {self.choice!r}", expected="no target"
            )
        if self.choice is not None and self.choice not in self.target.classes:
            raise unknown(f"class of {self.target.column}", self.choice, self.target.classes)

    def chosen(self, outputs: Tensor) -> Tensor:
        """Which of the outputs [B, K] of each row is explained, [B]."""
        if self.target.task == "regression":
            return torch.full((len(outputs),), self.target.point)
        if self.choice is not None:
            return torch.full((len(outputs),), self.target.classes.index(self.choice))
        return outputs.argmax(1)

    def score(self, outputs: Tensor, chosen: Tensor, probability: bool) -> Tensor:
        """The number [B] that is explained: the logit of what was chosen, or its probability; of a number itself."""
        outputs = outputs.flatten(1) if outputs.ndim > 1 else outputs[:, None]
        if self.target.task == "regression":
            outputs = outputs * self.target.std + self.target.mean
        elif probability:
            single = self.target.task == "classification"
            outputs = (outputs / self.target.temperature).softmax(1) if single else outputs.sigmoid()
        return outputs.gather(1, chosen[:, None].to(outputs.device))[:, 0]


class View:
    """Some rows of one kind of input, B of them, each of places `shape`.

    `points` are floats [B, …] that the answer is a function of, and `baselines` like them what stands for nothing: what
    is usual in the training rows. `answer` is that function; `shown` answers where only some places are there. Both take
    which rows are meant as their last argument, so that captum may repeat them.
    """

    kind: ClassVar[str]
    shape: tuple[int, ...]
    points: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]
    copies = 1  # rows that the model is asked about for one that is `shown`

    def __init__(self, asked: Asked, batch: dict[str, Tensor]):
        self.asked, self.batch = asked, batch
        self.rows = torch.arange(len(next(iter(batch.values()))))
        with torch.no_grad():
            self.outputs = self.run(batch)
        if not self.outputs.isfinite().all():
            raise DataError(
                "an answer of the model is not a number", expected="inputs that it has an answer to"
            )
        self.chosen = asked.chosen(self.outputs)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def at_once(self) -> int:
        """How many rows the model is asked about together."""
        return max(1, min(_ROWS, _PLACES // math.prod(self.shape)))

    def run(self, batch: dict[str, Tensor]) -> Tensor:
        """The head's outputs [B, K]."""
        outputs = self.asked.model(batch)[self.asked.key]
        return outputs if outputs.ndim > 1 else outputs[:, None]

    def value(self, probability: bool = True) -> Tensor:
        """The numbers [B] that are explained."""
        return self.asked.score(self.outputs, self.chosen, probability)

    def answer(self, *given: Tensor) -> Tensor:
        """The logit (or number) [M] at some points, their rows [M] last."""
        *points, rows = given
        return self.asked.score(self.at(points, rows), self.chosen[rows], probability=False)

    def at(self, points: list[Tensor], rows: Tensor) -> Tensor:
        """The outputs [M, K] at some points."""
        raise NotImplementedError

    def shown(self, present: Tensor, rows: Tensor) -> Tensor:
        """The probability (or number) [M] where of each row only some places are there: [M, *shape], 1 or 0."""
        size = max(1, self.at_once // self.copies)
        with torch.no_grad():
            parts = zip((present > 0.5).split(size), rows.split(size), strict=True)
            return torch.cat([self._shown(some, which) for some, which in parts])

    def _shown(self, present: Tensor, rows: Tensor) -> Tensor:
        outputs = self.partly(present, rows)
        chosen = self.chosen[rows].repeat_interleave(self.copies)
        scores = self.asked.score(outputs, chosen, probability=True)
        return scores.view(len(rows), -1).mean(1)

    def partly(self, present: Tensor, rows: Tensor) -> Tensor:
        """The outputs [M × copies, K] where only some places are there, [M, *shape], bool."""
        raise NotImplementedError

    def places(self, found: tuple[Tensor, ...]) -> Tensor:
        """What the points are worth as what the places are worth, [B, *shape]."""
        raise NotImplementedError

    def free(self) -> Tensor:
        """Which places can be taken away, [B, *shape], bool: all, but for padding and the like."""
        return torch.ones(len(self), *self.shape, dtype=torch.bool)

    def window(self) -> tuple[int, ...]:
        """How many neighbouring places make a part that is worth looking at."""
        return tuple(-(-side // 8) for side in self.shape)

    def require_gradients(self) -> None:
        """UsageError where the answer is no differentiable function of all points."""
        with torch.enable_grad():
            points = [p[:1].detach().requires_grad_() for p in self.points]
            found = self.answer(*points, self.rows[:1]) if points else torch.zeros(1)
            reached = found.requires_grad and all(
                g is not None for g in torch.autograd.grad(found.sum(), points, allow_unused=True)
            )
        if not reached:
            raise UsageError(
                "what this model says of its inputs cannot be differentiated", expected="occlusion or shapley"
            )

    def differentiable(self) -> bool:
        """Whether gradients tell anything."""
        try:
            self.require_gradients()
        except UsageError:
            return False
        return True
