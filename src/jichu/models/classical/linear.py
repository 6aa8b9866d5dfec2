"""Linear models with a quadratic penalty, on features standardised by the whole training population."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, ClassWeights, Estimated, as_numpy, standard


class _Affine(Estimated):
    """Weights and biases of the features as they come."""

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, outputs: int, task: Task):
        super().__init__(task, outputs)
        self.register_buffer("weight", torch.zeros(outputs, width))
        self.register_buffer("bias", torch.zeros(outputs))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        self._refuse_gaps(features)
        mean, std = standard(population)
        slope, bias = self._fit((features - mean) / std, targets, weight)
        self.weight = (slope / std).float()
        self.bias = (bias - slope @ (mean / std)).float()

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights [outputs, D] and biases [outputs] of the standardised features."""
        raise NotImplementedError

    def forward(self, features: Features) -> Tensor:
        return nn.functional.linear(features.pooled.float(), self.weight, self.bias)


class LogisticRegression(_Affine):
    """Multinomial logistic regression, the penalty's strength 1/c; of several labels, one for each."""

    tasks = ("classification", "multilabel")

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        c: Annotated[float, Field(gt=0)] = 1.0,
        class_weights: ClassWeights = "none",
    ):
        super().__init__(width, outputs, task)
        self.c, self.class_weights = c, class_weights

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.task == "classification":
            return self._classes(x, targets, weight, len(self.bias))
        slopes, biases = [], []
        for label in targets.T:
            known = ~label.isnan()
            part = None if weight is None else weight[known]
            slope, bias = self._classes(x[known], label[known].long(), part, 2)
            slopes.append(slope[1] - slope[0])
            biases.append(bias[1] - bias[0])
        return torch.stack(slopes), torch.stack(biases)

    def _classes(
        self, x: Tensor, codes: Tensor, weight: Tensor | None, classes: int
    ) -> tuple[Tensor, Tensor]:
        from sklearn import linear_model

        slope, bias = torch.zeros(classes, x.shape[1]), torch.full((classes,), ABSENT)
        present = codes.unique()
        if len(present) < 2:  # nothing to tell apart
            bias[present] = 0
            return slope, bias
        fitted: Any = linear_model.LogisticRegression(
            C=self.c, max_iter=1000, class_weight="balanced" if self.class_weights == "balanced" else None
        )
        fitted.fit(x.numpy(), codes.numpy(), as_numpy(weight))
        found, constant = (torch.from_numpy(a).float() for a in (fitted.coef_, fitted.intercept_))
        if len(present) == 2:  # scikit-learn keeps one row for two classes
            found, constant = torch.cat([-found, found]) / 2, torch.cat([-constant, constant]) / 2
        slope[present], bias[present] = found, constant
        return slope, bias


class Ridge(_Affine):
    """Linear regression, the penalty's strength `alpha` (Hoerl and Kennard, 1970)."""

    tasks = ("regression",)

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "regression",
        alpha: Annotated[float, Field(gt=0)] = 1.0,
    ):
        super().__init__(width, outputs, task)
        self.alpha = alpha

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        from sklearn import linear_model

        fitted: Any = linear_model.Ridge(alpha=self.alpha)
        fitted.fit(x.double().numpy(), targets.double().numpy().ravel(), as_numpy(weight))
        return torch.from_numpy(fitted.coef_).float()[None], torch.tensor([float(fitted.intercept_)])
