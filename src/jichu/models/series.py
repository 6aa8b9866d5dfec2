"""What a model does to series in time before its backbone sees them, and to what it forecasts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jichu.data.windows import SeriesInputs, Windows, statistics

LEVEL = "level"  # of a batch: [B, C, 2], mean and deviation that were taken off the columns that are forecast
_LEAST = 1e-5  # deviation of a column within a window, in units of its own over all


class Series(nn.Module):
    """Windows [B, steps, columns] in units of each column's deviation around its mean over the training rows; a value
    that is missing takes the last one before it.

    If `levelled`, each column of a window is then standardised by itself, and what was taken off is the `level` of the
    columns that are forecast (reversible instance normalisation: Kim et al., 2022). As a picture it is [B, 1, steps,
    columns].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, series: SeriesInputs, pictured: bool, levelled: bool):
        super().__init__()
        self.series, self.pictured, self.levelled = series, pictured, levelled
        self.register_buffer("mean", torch.zeros(len(series.columns)))
        self.register_buffer("std", torch.ones(len(series.columns)))

    def standardised(self, values: Tensor) -> Tensor:
        """In units of deviations around means, with gaps."""
        return (values.float() - self.mean) / self.std

    def levels(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [B, 1, F] of each column of a window."""
        return level(filled(self.standardised(values)))

    def forward(self, values: Tensor) -> dict[str, Tensor]:
        x, found = filled(self.standardised(values)), {}
        if self.levelled:
            mean, std = level(x)
            x = (x - mean) / std
            both = torch.stack([mean, std], 3)[:, 0]  # [B, columns, 2]
            found[LEVEL] = both[:, list(self.series.targets)]
        return {**found, **({"image": x[:, None]} if self.pictured else {"series": x})}

    @torch.no_grad()
    def estimate(self, windows: Windows, rows: Tensor) -> None:
        """From the steps of some rows of windows."""
        mean, std = statistics(windows.covered(rows))
        self.mean.copy_(mean)
        self.std.copy_(std)


def level(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [B, 1, F] over the steps of [B, L, F]."""
    return x.mean(1, keepdim=True), (x.var(1, keepdim=True, correction=0) + _LEAST).sqrt()


def filled(x: Tensor) -> Tensor:
    """[B, L, F] with the last known value in the place of each NaN; before the first known one that, and 0 where there
    is none."""
    known = ~x.isnan()
    places = torch.arange(x.shape[1], device=x.device)[None, :, None]
    last = _highest_so_far(torch.where(known, places, -1))
    first = torch.where(known, places, x.shape[1]).amin(1, keepdim=True)
    taken = torch.where(last < 0, first, last).clamp(max=x.shape[1] - 1)
    return x.gather(1, taken).nan_to_num(0.0)


def _highest_so_far(x: Tensor) -> Tensor:
    """Of [B, L, F], along L. Traced for other runtimes, which have no such operator, in log L steps, each of which sees
    twice as far back."""
    if not torch.compiler.is_exporting():
        return x.cummax(1).values
    back = 1
    while back < x.shape[1]:
        x = torch.cat([x[:, :back], torch.maximum(x[:, back:], x[:, :-back])], 1)
        back *= 2
    return x
