"""Prototypes: the mean of each class."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, Estimated, distances, standard, standardised


class Prototypes(Estimated):
    """How near a row is to the mean of each class (Snell et al., 2017), of features standardised by the whole training
    population: logits are the cosine, or minus the squared distance, over the temperature (if not given 0.1 and 1),
    less the largest. The paper's squared distance is for features that were trained for it."""

    mean: Tensor
    std: Tensor
    prototypes: Tensor
    present: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        distance: Literal["cosine", "squared"] = "cosine",
        temperature: Annotated[float, Field(gt=0)] | None = None,
    ):
        super().__init__(task)
        self.distance = distance
        self.temperature = temperature or (0.1 if distance == "cosine" else 1.0)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("prototypes", torch.zeros(outputs, width))  # standardised
        self.register_buffer("present", torch.zeros(outputs, dtype=torch.bool))  # classes with examples

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        self._refuse_gaps(features)
        self.mean, self.std = standard(population)
        share = torch.ones(len(features)) if weight is None else weight.float()
        belongs = F.one_hot(targets, len(self.prototypes)).T * share  # [outputs, N]
        total = belongs.sum(1)
        self.prototypes = belongs @ self._ready(features) / total.clamp(min=1e-12)[:, None]
        self.present = total > 0

    def _ready(self, features: Tensor) -> Tensor:
        return standardised(features, self.mean, self.std, self.distance == "cosine")

    def forward(self, features: Features) -> Tensor:
        x = self._ready(features.pooled)
        if self.distance == "cosine":
            nearness = x @ F.normalize(self.prototypes).T
        else:
            nearness = -distances(x, self.prototypes).square()
        logits = (nearness / self.temperature).masked_fill(~self.present, -torch.inf)
        return (logits - logits.amax(1, keepdim=True)).clamp(min=ABSENT)  # the same to a softmax
