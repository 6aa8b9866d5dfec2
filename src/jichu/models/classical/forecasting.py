"""Forecasts that are estimated at once: the last season again, and one linear map for all columns. What networks are
to beat (Zeng et al., 2023, arXiv 2205.13504)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.target import Task
from jichu.data.windows import SeriesInputs

from ..backbone import Features
from .estimated import Estimated

_SAMPLE = 2000  # windows on which periods are tried
_AT_ONCE = 4096


class _OfWindows(Estimated):
    """Looks at the values of windows as the backbone `window` gives them."""

    tasks = ("forecast",)
    reads = "window"

    def __init__(self, steps: int, series: SeriesInputs, task: Task = "forecast"):
        super().__init__(task)
        self.steps, self.series = steps, series

    def _values(self, features: Tensor) -> Tensor:
        """[N, context, C] of the columns that are forecast."""
        return features.unflatten(1, (self.series.steps, len(self.series.columns)))[
            ..., list(self.series.targets)
        ]


class SeasonalNaive(_OfWindows):
    """The last `period` steps of the window again and again; a period of 1 repeats the last value. Which is chosen by
    the least absolute error on training windows, if nothing is said."""

    period: Tensor

    def __init__(
        self, steps: int, series: SeriesInputs, task: Task = "forecast",
        period: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto",
    ):  # fmt: skip
        super().__init__(steps, series, task)
        self.wanted = period
        if period != "auto" and period > series.steps:
            raise UsageError(
                f"a period of {period} steps in windows of {series.steps}", where="head.period",
                expected=f"at most {series.steps}, or a longer data.series.context",
            )  # fmt: skip
        self.register_buffer("period", torch.tensor(1 if period == "auto" else period))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        if self.wanted != "auto":
            return
        rows = slice(None, None, max(1, len(features) // _SAMPLE))
        values, truth = self._values(features[rows]), targets[rows]
        errors = [
            (self._again(values, period) - truth).abs().nanmean()
            for period in range(1, self.series.steps + 1)
        ]
        self.period = torch.stack(errors).argmin() + 1

    def _again(self, values: Tensor, period: int) -> Tensor:
        places = torch.arange(self.steps) % period
        return values[:, values.shape[1] - period + places]

    def forward(self, features: Features) -> Tensor:
        return self._again(self._values(features.pooled), int(self.period))


class LinearForecast(_OfWindows):
    """Each step a linear function of the window, both less the window's last value, by the same weights for all columns
    (NLinear), with a quadratic penalty of strength `alpha` times the mean square of what is looked at."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        steps: int,
        series: SeriesInputs,
        task: Task = "forecast",
        alpha: Annotated[float, Field(ge=0)] = 1.0,
    ):
        super().__init__(steps, series, task)
        self.alpha = alpha
        self.register_buffer("weight", torch.zeros(steps, series.steps))
        self.register_buffer("bias", torch.zeros(steps))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        width = self.series.steps + 1
        square = torch.zeros(width, width, dtype=torch.double)
        product = torch.zeros(width, self.steps, dtype=torch.double)
        for part, truth in zip(features.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True):
            values = self._values(part).double()
            last = values[:, -1:]
            x, y = ((v - last).transpose(1, 2).flatten(0, 1) for v in (values, truth.double()))
            known = ~y.isnan().any(1)  # [N × C]
            x, y = torch.cat([x, torch.ones(len(x), 1)], 1)[known], y[known]
            square += x.T @ x
            product += x.T @ y
        penalty = self.alpha * square.diagonal()[:-1].mean().clamp(min=1e-12) / max(1, self.series.steps)
        square[range(width - 1), range(width - 1)] += penalty
        square[-1, -1] += 1e-9
        found: Any = torch.linalg.solve(square, product).float()
        self.weight, self.bias = found[:-1].T.contiguous(), found[-1]

    def forward(self, features: Features) -> Tensor:
        values = self._values(features.pooled)
        last = values[:, -1:]
        return torch.einsum("blc,hl->bhc", values - last, self.weight) + self.bias[:, None] + last
