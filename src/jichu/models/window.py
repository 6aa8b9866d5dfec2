"""What classical models look at of series."""

from __future__ import annotations

from torch import Tensor

from .backbone import Backbone, Features


class Window(Backbone):
    """No network at all: the values of a window, [B, steps × columns], in units of each column's deviation. What
    the linear and the seasonal forecast look at."""

    levelled = False

    def __init__(self, steps: int, columns: int):
        super().__init__()
        self.width = steps * columns

    def forward(self, batch: dict[str, Tensor]) -> Features:
        return Features(batch["series"].flatten(1))
