"""Nearest neighbours."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, Estimated, distances, in_parts, standard, standardised

_CELLS = 2**24  # distances held at once


class NearestNeighbours(Estimated):
    """What the k nearest examples say (Fix and Hodges, 1951), after the features are standardised by the
    whole training population; all examples where there are fewer than k. `metric` is the distance;
    `cosine` is one less the cosine.

    Each counts alike, or by the inverse of its distance, and then only those at the very place where
    there are any. A label that is not known of an example counts as its share among the others.
    """

    tasks = ("classification", "multilabel", "regression")
    holds_rows = True
    mean: Tensor
    std: Tensor
    examples: Tensor
    targets: Tensor
    weight: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        k: Annotated[int, Field(ge=1)] = 5,
        weights: Literal["uniform", "distance"] = "uniform",
        metric: Literal["euclidean", "cosine"] = "euclidean",
    ):
        super().__init__(task, outputs)
        self.outputs, self.k, self.weights, self.metric = outputs, k, weights, metric
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("examples", torch.empty(0, width))  # [N, D], as `_ready` makes them
        self.register_buffer("targets", torch.empty(0))  # [N] codes or [N, outputs] numbers
        self.register_buffer("weight", torch.empty(0))  # [N]

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        self._refuse_gaps(features)
        self.mean, self.std = standard(population)
        self.examples = self._ready(features)
        self.weight = torch.ones(len(features)) if weight is None else weight.float()
        if self.task == "classification":
            self.targets = targets.clone()
        else:
            known = targets.float().reshape(len(features), -1)
            self.targets = torch.where(known.isnan(), known.nanmean(0), known)

    def _ready(self, features: Tensor) -> Tensor:
        return standardised(features, self.mean, self.std, self.metric == "cosine")

    def forward(self, features: Features) -> Tensor:
        x = self._ready(features.pooled)
        parts = in_parts(x, _CELLS // max(1, len(self.examples)))
        found = torch.cat([self._mean(part) for part in parts])
        if self.task == "classification":
            return found.log().clamp(min=ABSENT)
        return found.logit().clamp(ABSENT, -ABSENT) if self.task == "multilabel" else found

    def _mean(self, x: Tensor) -> Tensor:
        """The weighted mean [B, outputs] of the neighbours' targets."""
        near, index = distances(x, self.examples).topk(min(self.k, len(self.examples)), largest=False)
        if self.metric == "cosine":
            near = near.square() / 2  # of unit vectors
        weights = self.weight[index]
        if self.weights == "distance":
            same = near == 0
            weights = weights * torch.where(same.any(1, keepdim=True), same.float(), 1 / near)
        weights = weights / weights.sum(1, keepdim=True)
        targets = self.targets[index]
        if self.task == "classification":
            return weights.new_zeros(x.shape[0], self.outputs).scatter_add(1, targets, weights)
        return (weights[:, :, None] * targets).sum(1)
