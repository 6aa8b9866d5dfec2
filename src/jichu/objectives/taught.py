"""A teacher that follows: what a moving average of the network makes of one view is the target of another."""

from __future__ import annotations

import copy
import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.data.augment import Augment
from jichu.models.averaging import follow

from .base import Batch, Context
from .views import JointEmbedding, embed, mlp

Momentum = Annotated[float, Field(ge=0, lt=1)]


class Taught(JointEmbedding):
    """Has a teacher, which after each step goes towards model and projector by 1 - momentum, which falls to 0 along a
    cosine (Grill et al., 2020). It has batch statistics of its own, and no gradient."""

    def __init__(self, augment: Augment, views: int, width: int, hidden: int, momentum: float):
        super().__init__(augment, views, width, hidden)
        self.momentum = momentum
        self.teacher = nn.ModuleDict()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        copies = {"model": copy.deepcopy(model), "projector": copy.deepcopy(self.projector)}
        self.teacher = nn.ModuleDict(copies).requires_grad_(False)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Also targets [B, V, D], what the teacher makes of the views."""
        outputs = super().forward(model, batch)
        with torch.no_grad():
            _, targets = embed(self.teacher["model"], self.teacher["projector"], batch)
        return {**outputs, "targets": targets}

    def after_step(self, model: nn.Module, context: Context) -> None:
        share = (1 - self.momentum) * (1 + math.cos(math.pi * context.progress)) / 2
        follow(self.teacher["model"], model, share)
        follow(self.teacher["projector"], self.projector, share)


class Predicting(Taught):
    """Also gives predictions [B, V, D] of the targets, by a network that the teacher has not."""

    def __init__(self, augment: Augment, views: int, width: int, hidden: int, momentum: float):
        super().__init__(augment, views, width, hidden, momentum)
        self.predictor: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        self.predictor = mlp(self.width, self.hidden, self.width, layers=2).to(batch["row"].device)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = super().forward(model, batch)
        embeddings = outputs["embeddings"]
        predictions = self.predictor(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])
        return {**outputs, "predictions": predictions}
