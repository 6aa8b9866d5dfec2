"""Learning what comes next in a series."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Batch, Objective, row_weight
from .supervised import Targets, known_target


class Forecast(Objective):
    """How far the head named `target`, [B, H, C], is from the column of that name, in units of each column's
    deviation around its mean over the training rows; the mean over what is known of a row (not NaN). The loss is the
    squared or the absolute error, or Huber's, squared below one deviation."""

    task = "forecast"
    mean: Tensor
    std: Tensor

    def __init__(
        self, target: str = "label", loss: Literal["mse", "mae", "huber"] = "mse", targets: Targets = None
    ):
        super().__init__()
        self.target, self.loss = target, loss
        known = known_target(targets, target, "forecast")
        self.register_buffer("mean", torch.tensor(known.means if known else 0.0))
        self.register_buffer("std", torch.tensor(known.stds if known else 1.0))

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * ~batch[self.target].isnan().flatten(1).all(1)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        wanted = (batch[self.target].float() - self.mean) / self.std
        known, wanted, found = ~wanted.isnan(), wanted.nan_to_num(), outputs[self.target].float()
        how: Any = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[self.loss]
        return (how(found, wanted, reduction="none") * known).flatten(1).sum(1) / known.flatten(1).sum(
            1
        ).clamp(min=1)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        wanted = (batch[self.target].float() - self.mean) / self.std
        return {"train_scaled_mae": (outputs[self.target].float() - wanted).abs().nanmean()}
