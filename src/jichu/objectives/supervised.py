"""Learning from labels."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError, unknown
from jichu.data.target import Target, Task

from .base import Batch, Objective, row_weight

_NO_LABEL = -1
_TINY = 1e-12
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weights = Literal["balanced"] | list[NotNegative] | None
Targets = dict[str, Target] | None  # what is known of the columns; comes from us


def known_target(targets: Targets, column: str, task: Task) -> Target | None:
    """What is known of a column; UsageError where it is none of this task."""
    if targets is None:
        return None
    if column not in targets:
        raise unknown("target", column, targets, where="objective.target")
    found = targets[column]
    if found.task != task:
        raise UsageError(
            f"the objective {task} cannot learn {column!r}", where="objective", expected=found.task
        )
    return found


def _class_weights(weights: Weights, target: Target | None, key: str, balanced: list[float]) -> Tensor | None:
    """[K], or None where there are none."""
    if weights is None:
        return None
    if weights == "balanced":
        if not balanced:
            raise UsageError(
                "balanced weights need the counts of the classes", where=f"objective.{key}",
                expected="targets, or the weights as a list",
            )  # fmt: skip
        return torch.tensor(balanced)
    if target is not None and len(weights) != len(target.classes):
        raise UsageError(
            f"{len(weights)} weights for {len(target.classes)} classes", where=f"objective.{key}",
            expected=f"one for each of {', '.join(target.classes[:10])}",
        )  # fmt: skip
    return torch.tensor([float(weight) for weight in weights])


def _focused(entropy: Tensor, likelihood: Tensor, gamma: float) -> Tensor:
    """Cross-entropies × (1 - p)^gamma, p being the probability of the truth, given as -log p: less weight
    for what is easy already (Lin et al., 2017)."""
    if gamma == 0:
        return entropy
    return entropy * (-torch.expm1(-likelihood)).clamp(min=1e-6) ** gamma  # the root's slope stays finite


class Classification(Objective):
    """Cross-entropy of the head named `target` with the column of that name; a label of -1 has no weight.

    `smoothing` spreads that share of the truth over all classes (Szegedy et al., 2015); `focal` is the
    focal loss's gamma. `class_weights` multiply the rows' weights: a list, or `balanced`, rows / (classes
    × rows of the class); with smoothing they also weigh the shares spread, as in torch.
    """

    task = "classification"
    class_weights: Tensor | None

    def __init__(
        self,
        target: str = "label",
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        focal: NotNegative = 0.0,
        class_weights: Weights = None,
        targets: Targets = None,
    ):
        super().__init__()
        self.target, self.smoothing, self.focal = target, smoothing, focal
        known = known_target(targets, target, "classification")
        counts = known.counts if known else ()
        balanced = [sum(counts) / (len(counts) * n) if n else 0.0 for n in counts]
        weights = _class_weights(class_weights, known, "class_weights", balanced)
        self.register_buffer("class_weights", weights)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch[self.target]
        weight = row_weight(batch) * (labels != _NO_LABEL)
        if self.class_weights is not None:
            weight = weight * self.class_weights[labels.clamp(min=0)]
        return {"loss": weight}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        logits, labels = outputs[self.target].float(), batch[self.target]
        loss = F.cross_entropy(
            logits,
            labels,
            weight=self.class_weights,
            reduction="none",
            ignore_index=_NO_LABEL,
            label_smoothing=self.smoothing,
        )
        if self.class_weights is not None:  # the row's weight has it already
            loss = loss / self.class_weights[labels.clamp(min=0)].clamp(min=_TINY)
        if self.focal == 0:
            return loss
        likelihood = F.cross_entropy(logits, labels, reduction="none", ignore_index=_NO_LABEL)
        return _focused(loss, likelihood, self.focal)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        known = batch[self.target] != _NO_LABEL
        hits = (outputs[self.target].argmax(1) == batch[self.target])[known]
        return {"train_accuracy": hits.float().mean()}


class MultiLabel(Objective):
    """Binary cross-entropy of each of the K logits of the head named `target` with the column [B, K] of
    that name, 0 or 1; the mean over the entries of a row that are known (not NaN). A row without any has
    no weight.

    `positive_weights` multiply the loss of the ones: a list, or `balanced`, rows without / rows with a
    class. `focal` is the focal loss's gamma.
    """

    task = "multilabel"
    positive_weights: Tensor | None

    def __init__(
        self,
        target: str = "label",
        focal: NotNegative = 0.0,
        positive_weights: Weights = None,
        targets: Targets = None,
    ):
        super().__init__()
        self.target, self.focal = target, focal
        known = known_target(targets, target, "multilabel")
        balanced = [(known.rows - n) / n if n else 1.0 for n in known.counts] if known else []
        weights = _class_weights(positive_weights, known, "positive_weights", balanced)
        self.register_buffer("positive_weights", weights)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * ~batch[self.target].isnan().all(1)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        wanted = batch[self.target].float()
        known, wanted, logits = ~wanted.isnan(), wanted.nan_to_num(), outputs[self.target].float()
        loss = F.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.positive_weights, reduction="none"
        )
        if self.focal:
            likelihood = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            loss = _focused(loss, likelihood, self.focal)
        return (loss * known).sum(1) / known.sum(1).clamp(min=1)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        known = ~batch[self.target].isnan()
        hits = ((outputs[self.target] > 0) == (batch[self.target] > 0.5))[known]
        return {"train_accuracy": hits.float().mean()}


Level = Annotated[float, Field(gt=0, lt=1)]


class Regression(Objective):
    """How far the head named `target`, [B, 1] or [B], is from the column of that name, in units of the
    training rows' deviation around their mean; a target that is NaN has no weight.

    The loss is the squared or the absolute error, Huber's (1964; squared below `delta`), or for
    `quantile` the pinball loss (Koenker and Bassett, 1978) of Q outputs [B, Q], their mean.
    """

    task = "regression"

    def __init__(
        self,
        target: str = "target",
        loss: Literal["mse", "mae", "huber", "quantile"] = "mse",
        delta: Positive = 1.0,
        quantiles: Annotated[list[Level], Field(min_length=1)] = [0.1, 0.5, 0.9],  # noqa: B006 (read only)
        targets: Targets = None,
    ):
        super().__init__()
        self.target, self.loss, self.delta = target, loss, delta
        known = known_target(targets, target, "regression")
        self.mean, self.std = (known.mean, known.std) if known else (0.0, 1.0)
        if sorted(set(quantiles)) != list(quantiles) or not all(0 < q < 1 for q in quantiles):
            raise UsageError(
                f"the quantiles {quantiles}", where="objective.quantiles",
                expected="rising numbers between 0 and 1",
            )  # fmt: skip
        self.quantiles = tuple(quantiles)

    def answer(self, key: str, target: Target) -> Target:
        if self.loss != "quantile" or key != self.target:
            return target
        return dataclasses.replace(target, quantiles=self.quantiles)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * ~batch[self.target].isnan()}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        wanted = (batch[self.target].float().nan_to_num() - self.mean) / self.std
        found = outputs[self.target].float()
        if self.loss == "quantile":
            level = torch.tensor(self.quantiles, device=found.device)
            lacks = wanted[:, None] - found
            return torch.maximum(level * lacks, (level - 1) * lacks).mean(1)
        found = found.view_as(wanted)
        if self.loss == "huber":
            return F.huber_loss(found, wanted, reduction="none", delta=self.delta)
        return (found - wanted).abs() if self.loss == "mae" else (found - wanted) ** 2

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """In the target's own units: the root of the mean squared error, or the mean pinball loss."""
        known = ~batch[self.target].isnan()
        if self.loss == "quantile":
            return {"train_pinball": self.std * self.losses(outputs, batch)[known].mean()}
        found = outputs[self.target].float().view_as(batch[self.target]) * self.std + self.mean
        return {"train_rmse": (found - batch[self.target])[known].square().mean().sqrt()}
