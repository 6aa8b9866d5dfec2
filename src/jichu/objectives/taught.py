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
    """Beside embeddings gives targets [B, V, D] of the teacher, and predictions [B, V, D] of them.

    After each step the teacher goes towards model and projector by 1 - momentum, which rises to 1 along a
    cosine (Grill et al., 2020). It has batch statistics of its own, and no gradient.
    """

    def __init__(self, augment: Augment, views: int, width: int, hidden: int, momentum: float):
        super().__init__(augment, views, width, hidden)
        self.momentum = momentum
        self.predictor: nn.Module = nn.Identity()
        self.teacher = nn.ModuleDict()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        self.predictor = mlp(self.width, self.hidden, self.width, layers=2).to(batch["row"].device)
        self.teacher = teacher_of(model, self.projector)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = super().forward(model, batch)
        embeddings = outputs["embeddings"]
        with torch.no_grad():
            _, targets = embed(self.teacher["model"], self.teacher["projector"], batch)
        predictions = self.predictor(embeddings.flatten(0, 1)).unflatten(0, embeddings.shape[:2])
        return {**outputs, "predictions": predictions, "targets": targets}

    def after_step(self, model: nn.Module, context: Context) -> None:
        teach(self.teacher, model, self.projector, self.momentum, context)


def teacher_of(model: nn.Module, projector: nn.Module) -> nn.ModuleDict:
    """Copies of both, which are kept but not trained."""
    return nn.ModuleDict(
        {"model": copy.deepcopy(model), "projector": copy.deepcopy(projector)}
    ).requires_grad_(False)


def teach(
    teacher: nn.ModuleDict, model: nn.Module, projector: nn.Module, momentum: float, context: Context
) -> None:
    """Move the teacher towards both by 1 - momentum, which falls to 0 along a cosine."""
    share = (1 - momentum) * (1 + math.cos(math.pi * context.progress)) / 2
    follow(teacher["model"], model, share)
    follow(teacher["projector"], projector, share)
