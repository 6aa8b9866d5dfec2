"""Gaussian naive Bayes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, Estimated, as_numpy


class NaiveBayes(Estimated):
    """Gaussian naive Bayes; `smoothing` is the share of the largest variance added to each."""

    prior: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        smoothing: Annotated[float, Field(gt=0)] = 1e-2,
    ):
        super().__init__(task)
        self.smoothing = smoothing
        self.register_buffer("prior", torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs, width))
        self.register_buffer("variance", torch.ones(outputs, width))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        from sklearn import naive_bayes

        self._refuse_gaps(features)
        fitted: Any = naive_bayes.GaussianNB(var_smoothing=self.smoothing)
        fitted.fit(features.numpy(), targets.numpy(), as_numpy(weight))
        present = torch.from_numpy(fitted.classes_)
        self.prior.fill_(ABSENT)
        self.prior[present] = torch.from_numpy(fitted.class_prior_).log().float()
        self.mean[present] = torch.from_numpy(fitted.theta_).float()
        self.variance[present] = torch.from_numpy(fitted.var_).float()

    def forward(self, features: Features) -> Tensor:
        """Log of prior times likelihood, which softmax turns into the posterior."""
        x = features.pooled.float()[:, None]
        likelihood = (x - self.mean) ** 2 / self.variance + (2 * math.pi * self.variance).log()
        return self.prior - likelihood.sum(2) / 2
