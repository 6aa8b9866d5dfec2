"""Masked series: stretches of a window are missing, and are told from the rest."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.windows import SeriesInputs
from jichu.models.forecasting import Forecast
from jichu.models.series import Series

from .base import PRETRAINING, Batch, Context, Objective


class MaskedSeries(Objective):
    """Of each column of a window, by itself, stretches of `span` steps are taken out, about `share` of all, and told by
    a linear head of the kind that forecasts (after PatchTST: Nie et al., 2023, arXiv 2211.14730). The loss is the mean
    squared error over them, in units of each column's deviation over the training rows."""

    task = PRETRAINING
    kinds = ("series",)

    def __init__(
        self, share: Annotated[float, Field(gt=0, lt=1)] = 0.4, span: Annotated[int, Field(ge=1)] = 12
    ):
        super().__init__()
        self.share, self.span = share, span
        self.head: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        found = [module for module in model.modules() if isinstance(module, Series)]
        if not found or not found[0].levelled:
            raise UsageError(
                "masked-series trains a network of series",
                where="backbone",
                expected="patchtst, lstm, gru or mlp",
            )
        self._of_model = tuple(found)  # the model's own: in a tuple it is no part of the objective
        training = model.training
        with torch.no_grad():
            features = model.eval()(batch)["features"]
        model.train(training)
        known = found[0].series
        every = SeriesInputs(known.columns, known.steps, tuple(range(len(known.columns))))
        self.head = Forecast(features.pooled.shape[1], known.steps, every, getattr(model, "backbone", None))
        self.to(batch["row"].device)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        values = batch["series"]
        hidden = self._hidden(batch, context)
        return {**batch, "series": values.masked_fill(hidden, math.nan), "truth": values, "hidden": hidden}

    def _hidden(self, batch: Batch, context: Context) -> Tensor:
        """[B, L, F]: whole stretches, which lie on a grid moved at random, the same for all columns of a row."""
        rows, steps, columns = batch["series"].shape
        span = min(self.span, max(1, steps // 2))
        parts = -(-steps // span) + 1
        order = context.uniform(batch["row"], parts * columns, "masked").view(rows, parts, columns).argsort(1)
        chosen = order.argsort(1) < max(1, round(self.share * parts))
        moved = (context.uniform(batch["row"], 1, "moved")[:, 0] * span).long()
        places = (torch.arange(steps) + moved[:, None].cpu()) // span  # [B, L]
        return chosen.cpu().gather(1, places[:, :, None].expand(-1, -1, columns)).to(batch["series"].device)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """windows [B, L, F] as they are told, in units of deviations."""
        (series,) = self._of_model
        with torch.no_grad():
            mean, std = series.levels(batch["series"])  # of every column, forecast or not
        features = model(batch)["features"]._replace(level=torch.stack([mean, std], 3)[:, 0])
        return {"windows": self.head(features) + 0 * features.pooled.sum()}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        (series,) = self._of_model
        truth = series.standardised(batch["truth"])
        asked = batch["hidden"] & ~truth.isnan()
        error = (outputs["windows"].float() - truth.nan_to_num()).square() * asked
        return error.flatten(1).sum(1) / asked.flatten(1).sum(1).clamp(min=1)
