"""A model: pixels normalised, a backbone, named heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .backbone import Backbone, Features


class Normalize(nn.Module):
    """Images, uint8 or 0 to 1, to zero mean and unit variance by channel. Part of the model, so that
    whoever has the model has it."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("std", std.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return (images - self.mean) / self.std

    @classmethod
    def of(cls, images: Tensor, rows: Tensor, most: int = 10_000) -> Normalize:
        """Statistics of some rows of uint8 images [N, C, H, W], of an even sample where there are many."""
        sample = images[rows[:: max(1, len(rows) // most)]].float() / 255
        mean = sample.mean(dim=(0, 2, 3))
        std = (sample - mean[:, None, None]).pow(2).mean(dim=(0, 2, 3)).sqrt()
        return cls(mean, std.clamp(min=1 / 255))


class Model(nn.Module):
    """`forward(batch) -> {"features": Features, head: output, …}`."""

    def __init__(
        self,
        backbone: Backbone,
        heads: dict[str, nn.Module] | None = None,
        normalize: Normalize | None = None,
    ):
        super().__init__()
        self.normalize = normalize or Normalize(torch.zeros(1), torch.ones(1))
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads or {})

    def features(self, batch: dict[str, Tensor]) -> Features:
        """The backbone's features of a batch."""
        if "image" in batch:
            batch = {**batch, "image": self.normalize(batch["image"])}
        return self.backbone(batch)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        features = self.features(batch)
        return {"features": features, **{name: head(features) for name, head in self.heads.items()}}
