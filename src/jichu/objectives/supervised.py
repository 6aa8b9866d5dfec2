"""Learning from labels."""

from __future__ import annotations

from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .base import Batch, Objective, row_weight

_NO_LABEL = -1


class Classification(Objective):
    """Cross-entropy of the head named `target` with the column of that name; a label of -1 has no
    weight. `smoothing` spreads that share of the target over all classes (Szegedy et al., 2015)."""

    def __init__(self, target: str = "label", smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0):
        super().__init__()
        self.target, self.smoothing = target, smoothing

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * (batch[self.target] != _NO_LABEL)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        return F.cross_entropy(
            outputs[self.target].float(),
            batch[self.target],
            reduction="none",
            ignore_index=_NO_LABEL,
            label_smoothing=self.smoothing,
        )

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        known = batch[self.target] != _NO_LABEL
        hits = (outputs[self.target].argmax(1) == batch[self.target])[known]
        return {"train_accuracy": hits.float().mean()}


class Regression(Objective):
    """Squared error of the head named `target` [B, 1] or [B] with the column of that name; a target
    that is NaN has no weight."""

    def __init__(self, target: str = "target"):
        super().__init__()
        self.target = target

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * ~batch[self.target].isnan()}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        wanted = batch[self.target].float()
        return (outputs[self.target].float().view_as(wanted) - wanted.nan_to_num()) ** 2
