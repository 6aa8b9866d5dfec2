"""CutMix (Yun et al., 2019, arXiv 1905.04899): a rectangle of another image."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from jichu.data.augment.boxes import inside

from .base import Batch, Context, Objective
from .mixup import Mixing


class CutMix(Mixing):
    """A rectangle of each image is taken from another of its batch, and that share of its loss.

    The rectangle has the image's shape, 1 - λ of its area with λ ~ Beta(alpha, alpha), and a middle
    anywhere; what reaches over the border is cut off. λ is then the exact share of pixels kept.
    """

    name = "cutmix"
    dimensions = 4

    def __init__(self, inner: Objective, alpha: Annotated[float, Field(gt=0)] = 1.0, column: str = "image"):
        super().__init__(inner, alpha, column)

    def mix(
        self, x: Tensor, other: Tensor, share: Tensor, batch: Batch, context: Context
    ) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        extent = torch.tensor([width, height], device=x.device)
        middle = context.uniform(batch["row"], 2, "cutmix.middle").to(x.device) * extent
        half = (1 - share)[:, None].sqrt() * extent / 2
        box = inside((middle - half).round(), (middle + half).round(), (height, width))
        kept = 1 - box.float().mean((1, 2, 3))
        return torch.where(box, other, x), kept
