"""Rows whose label is not known are learnt from too: by what is believed of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.schema import LABEL
from jichu.data.source import UNLABELLED

from .base import Batch, Context, Losses, Objective, as_terms, row_weight
from .wrapper import Wrapper

Ratio = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class WithUnlabelled(Wrapper):
    """Around the objective of one target of classes: `ratio` rows without label, -1, stand beside each that has one.
    To what it goes around, these have no weight."""

    name: ClassVar[str]

    def __init__(self, inner: Objective, ratio: int):
        super().__init__(inner)
        learns = self.innermost
        if learns.task != "classification":
            raise UsageError(
                f"{self.name} goes around {learns.task or type(learns).__name__}",
                where="wrap", expected="the objective of one target of classes",
            )  # fmt: skip
        self.target, self.ratio = getattr(learns, "target", LABEL), ratio

    @property
    def unlabelled(self) -> int:  # type: ignore[override]
        return max(self.ratio, self.inner.unlabelled)

    def unknown(self, batch: Batch) -> Tensor:
        """The rows [B] whose label is not known."""
        return batch[self.target] == UNLABELLED


class SemiSupervised(WithUnlabelled):
    """Has a second term, of its own name, in which rows learn what is believed of them: a subclass says which rows do
    (`asked`), and what they lose (`unsupervised_loss`).

    The term counts `weight` times, at first hardly: it rises over the share `ramp` of the training, as
    exp(-5 (1 - t)²) does (Laine and Aila, 2017).
    """

    def __init__(self, inner: Objective, ratio: int, weight: float, ramp: float):
        super().__init__(inner, ratio)
        self.weight, self.ramp = weight, ramp

    def asked(self, batch: Batch) -> Tensor:
        """The rows [B] that have this term."""
        return self.unknown(batch)

    def unsupervised_loss(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        """What each row [B] loses, before the ramp."""
        raise NotImplementedError(f"{type(self).__name__}.unsupervised_loss")

    def prepare(self, batch: Batch, context: Context) -> Batch:
        ramp = torch.full(
            batch["row"].shape, ramp_up(context.progress, self.ramp), device=batch["row"].device
        )
        return {**super().prepare(batch, context), f"{self.name}.ramp": ramp}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().weights(batch), self.name: row_weight(batch) * self.asked(batch)}

    def scales(self) -> Mapping[str, float | Tensor]:
        return {**super().scales(), self.name: self.weight}

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        learnt = batch[f"{self.name}.ramp"] * self.unsupervised_loss(outputs, batch)
        return {**as_terms(super().losses(outputs, batch)), self.name: learnt}


class Consistency(SemiSupervised):
    """What a teacher makes of a view of its own is the target: the same rows, prepared again with other random numbers.
    A subclass says who the teacher is, and may change the student's view."""

    def teacher_of(self, model: nn.Module) -> nn.Module:
        """Who sees the second view."""
        return model

    def student_view(self, batch: Batch, context: Context) -> Batch:
        """What is learnt from."""
        return batch

    def prepare(self, batch: Batch, context: Context) -> Batch:
        theirs = super().prepare(batch, context.again(self.name))
        mine = self.student_view(super().prepare(batch, context), context)
        # masks that the student's view alone has hide nothing of the teacher's
        theirs = {**{n: torch.zeros_like(x) for n, x in mine.items() if n not in theirs}, **theirs}
        changed = [
            n for n in mine if theirs[n] is not mine[n] and (n in batch or not theirs[n].equal(mine[n]))
        ]
        return {**mine, **{self._view + n: theirs[n] for n in changed}}

    @property
    def _view(self) -> str:
        return f"{self.name}.view."

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        view = {n.removeprefix(self._view): x for n, x in batch.items() if n.startswith(self._view)}
        with torch.no_grad():
            taught = self.teacher_of(model)({**batch, **view})[self.target]
        return {**super().forward(model, batch), self.name: taught}

    def taught(self, outputs: dict[str, Any]) -> Tensor:
        """The teacher's logits [B, K]."""
        return outputs[self.name].float()


def ramp_up(progress: float, ramp: float) -> float:
    """From almost 0 to 1 over the share `ramp` of the training."""
    left = max(0.0, 1 - progress / ramp) if ramp else 0.0
    return math.exp(-5 * left**2)


def confident(beliefs: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The likeliest class [B] of logits, and whether it is as likely as the threshold [B]."""
    probability, code = beliefs.softmax(1).max(1)
    return code, probability >= threshold


def confident_loss(logits: Tensor, beliefs: Tensor, threshold: float) -> Tensor:
    """Cross-entropy [B] with the class that is believed in; 0 where that is not as likely as the threshold."""
    code, kept = confident(beliefs, threshold)
    return kept * F.cross_entropy(logits, code, reduction="none")


def mask_rate(beliefs: Tensor, threshold: float, asked: Tensor) -> dict[str, Tensor]:
    """The share of the rows asked for of which the class is as likely as the threshold."""
    return {"mask_rate": confident(beliefs, threshold)[1][asked].float().mean()}
