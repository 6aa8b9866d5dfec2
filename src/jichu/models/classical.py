"""Classical models as heads that are estimated at once and then are plain tensors.

scikit-learn does the estimation; what is kept is a module, so that saving, predicting and auditing
know only one kind of model.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from .backbone import Features


class Estimated(nn.Module):
    """A head with `estimate` in the place of training."""

    def estimate(self, features: Tensor, codes: Tensor, population: Tensor) -> None:
        """Set the parameters from features [N, D] with codes [N]; `population` [M, D] are the features
        of all training rows, labelled or not. A class without rows gets a score of almost minus
        infinity."""
        raise NotImplementedError(f"{type(self).__name__}.estimate")


_ABSENT = -1e4  # log-probability of a class of which there was no example


class LogisticRegression(Estimated):
    """Multinomial logistic regression with an L2 penalty, strength 1/c, on features standardised by
    the whole training population."""

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, outputs: int, c: Annotated[float, Field(gt=0)] = 1.0):
        super().__init__()
        self.c = c
        self.register_buffer("weight", torch.zeros(outputs, width))
        self.register_buffer("bias", torch.zeros(outputs))

    def estimate(self, features: Tensor, codes: Tensor, population: Tensor) -> None:
        from sklearn import linear_model

        mean, std = population.mean(0), population.std(0).clamp(min=1e-6)
        fitted: Any = linear_model.LogisticRegression(C=self.c, max_iter=1000)
        fitted.fit(((features - mean) / std).numpy(), codes.numpy())
        weight = torch.from_numpy(fitted.coef_).float()
        bias = torch.from_numpy(fitted.intercept_).float()
        if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        present = torch.from_numpy(fitted.classes_)
        self.weight.zero_()
        self.bias.fill_(_ABSENT)
        self.weight[present] = weight / std
        self.bias[present] = bias - weight @ (mean / std)

    def forward(self, features: Features) -> Tensor:
        return nn.functional.linear(features.pooled.float(), self.weight, self.bias)


class NaiveBayes(Estimated):
    """Gaussian naive Bayes; `smoothing` is the share of the largest variance added to each."""

    prior: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, outputs: int, smoothing: Annotated[float, Field(gt=0)] = 1e-2):
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("prior", torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs, width))
        self.register_buffer("variance", torch.ones(outputs, width))

    def estimate(self, features: Tensor, codes: Tensor, population: Tensor) -> None:
        from sklearn import naive_bayes

        fitted: Any = naive_bayes.GaussianNB(var_smoothing=self.smoothing)
        fitted.fit(features.numpy(), codes.numpy())
        present = torch.from_numpy(fitted.classes_)
        self.prior.fill_(_ABSENT)
        self.prior[present] = torch.from_numpy(fitted.class_prior_).log().float()
        self.mean[present] = torch.from_numpy(fitted.theta_).float()
        self.variance[present] = torch.from_numpy(fitted.var_).float()

    def forward(self, features: Features) -> Tensor:
        """Log of prior times likelihood, which softmax turns into the posterior."""
        x = features.pooled.float()[:, None]
        likelihood = (x - self.mean) ** 2 / self.variance + (2 * math.pi * self.variance).log()
        return self.prior - likelihood.sum(2) / 2
