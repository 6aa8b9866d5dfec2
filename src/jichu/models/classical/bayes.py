"""Naive Bayes."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, Estimated, as_matrix, as_numpy, linear


class NaiveBayes(Estimated):
    """Gaussian naive Bayes, `smoothing` being the share of the largest variance added to each (0.01); of
    counts multinomial (McCallum and Nigam, 1998), `smoothing` being added to each (1)."""

    takes_counts = True
    prior: Tensor
    mean: Tensor
    variance: Tensor
    likelihood: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        counts: bool = False,
        smoothing: Annotated[float, Field(gt=0)] | None = None,
    ):
        super().__init__(task)
        self.counts = counts
        self.smoothing = smoothing or (1.0 if counts else 1e-2)
        self.register_buffer("prior", torch.zeros(outputs))
        if counts:
            self.register_buffer("likelihood", torch.zeros(outputs, width))
        else:
            self.register_buffer("mean", torch.zeros(outputs, width))
            self.register_buffer("variance", torch.ones(outputs, width))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        from sklearn import naive_bayes

        self._refuse_gaps(features)
        kind: Any = naive_bayes.MultinomialNB if self.counts else naive_bayes.GaussianNB
        settings = {"alpha" if self.counts else "var_smoothing": self.smoothing}
        fitted = kind(**settings).fit(as_matrix(features), targets.numpy(), as_numpy(weight))
        present = torch.from_numpy(fitted.classes_)
        self.prior.fill_(ABSENT)
        if self.counts:
            self.prior[present] = torch.from_numpy(fitted.class_log_prior_).float()
            self.likelihood[present] = torch.from_numpy(fitted.feature_log_prob_).float()
            return
        self.prior[present] = torch.from_numpy(fitted.class_prior_).log().float()
        self.mean[present] = torch.from_numpy(fitted.theta_).float()
        self.variance[present] = torch.from_numpy(fitted.var_).float()

    def forward(self, features: Features) -> Tensor:
        """Log of prior times likelihood, which softmax turns into the posterior."""
        if self.counts:
            return linear(features.pooled, self.likelihood, self.prior)
        x = features.pooled.float()[:, None]
        likelihood = (x - self.mean) ** 2 / self.variance + (2 * math.pi * self.variance).log()
        return self.prior - likelihood.sum(2) / 2
