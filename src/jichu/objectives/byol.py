"""BYOL (Grill et al., 2020, arXiv 2006.07733): predict the teacher's embedding of the other view; no negatives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from jichu.data.augment import Augment

from .base import Batch
from .taught import Momentum, Predicting
from .views import Width


class BYOL(Predicting):
    """2 - 2 cos between prediction and target, of both views."""

    independent = True
    against_collapse = (
        "raise the objective's momentum, lower optimizer.lr, or keep normalisation in the backbone"
    )

    def __init__(self, augment: Augment, momentum: Momentum = 0.99, width: Width = 128, hidden: Width = 256):
        super().__init__(augment, 2, width, hidden, momentum)

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        other = outputs["targets"].flip(1)
        return (2 - 2 * F.cosine_similarity(outputs["predictions"], other, dim=2)).sum(1)
