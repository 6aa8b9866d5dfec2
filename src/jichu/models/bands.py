"""What classical models look at of a sound."""

from __future__ import annotations

import torch
from torch import Tensor

from .backbone import Backbone, Features

_PARTS = 3


class Bands(Backbone):
    """No network at all: mean and deviation over time of each band of a spectrogram [B, 1, frames, bands], and its mean
    over each third of the time."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.width = channels * size * (2 + _PARTS)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        image = batch["image"]
        thirds = [part.mean(2) for part in image.tensor_split(_PARTS, dim=2)]
        return Features(torch.cat([image.mean(2), image.std(2, correction=0), *thirds], 2).flatten(1))
