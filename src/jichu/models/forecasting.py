"""Heads that tell the next steps of series."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from jichu.data.windows import SeriesInputs

from .backbone import Backbone, Features


class Forecast(nn.Module):
    """[B, steps, C] of the columns that are forecast, in units of their deviations around their means: from each
    column's own features, by the same weights for all, where the backbone has such, else from the pooled ones. The
    level that was taken off is put back."""

    def __init__(
        self,
        width: int,
        steps: int,
        series: SeriesInputs,
        backbone: Backbone | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        self.steps, self.places = steps, list(series.targets)
        own = getattr(backbone, "column_width", None)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(own or width, steps if own else steps * len(self.places))

    def forward(self, features: Features) -> Tensor:
        if features.columns is not None:
            found = self.linear(self.dropout(features.columns[:, self.places])).transpose(1, 2)
        else:
            found = self.linear(self.dropout(features.pooled)).unflatten(1, (self.steps, len(self.places)))
        return found if features.level is None else restored(found, features.level)


def restored(values: Tensor, level: Tensor) -> Tensor:
    """[B, H, C] with mean and deviation, level [B, C, 2], put back."""
    mean, std = level[:, None].unbind(3)
    return values * std + mean
