"""Linear models with a quadratic penalty, on features standardised by the whole training population; counts
are taken as they are."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, ClassWeights, Estimated, as_matrix, as_numpy, linear, standard


class _Affine(Estimated):
    """Weights and biases of the features as they come."""

    takes_counts = True
    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, outputs: int, task: Task, counts: bool):
        super().__init__(task, outputs)
        self.counts = counts
        self.register_buffer("weight", torch.zeros(outputs, width))
        self.register_buffer("bias", torch.zeros(outputs))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        self._refuse_gaps(features)
        if self.counts:
            self.weight, self.bias = (found.float() for found in self._fit(features, targets, weight))
            return
        mean, std = standard(population)
        slope, bias = self._fit((features - mean) / std, targets, weight)
        self.weight = (slope / std).float()
        self.bias = (bias - slope @ (mean / std)).float()

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights [outputs, D] and biases [outputs] of the standardised features."""
        raise NotImplementedError

    def forward(self, features: Features) -> Tensor:
        return linear(features.pooled, self.weight, self.bias)


class LogisticRegression(_Affine):
    """Multinomial logistic regression, the penalty's strength 1/c; of several labels, one for each."""

    tasks = ("classification", "multilabel")

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        counts: bool = False,
        c: Annotated[float, Field(gt=0)] = 1.0,
        class_weights: ClassWeights = "none",
    ):
        super().__init__(width, outputs, task, counts)
        self.c, self.class_weights = c, class_weights

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.task == "classification":
            return self._classes(x, targets, weight, len(self.bias))
        slopes, biases = [], []
        for label in targets.T:
            known = (~label.isnan()).nonzero()[:, 0]
            part = None if weight is None else weight[known]
            slope, bias = self._classes(x.index_select(0, known), label[known].long(), part, 2)
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
        fitted.fit(as_matrix(x), codes.numpy(), as_numpy(weight))
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
        counts: bool = False,
        alpha: Annotated[float, Field(gt=0)] = 1.0,
    ):
        super().__init__(width, outputs, task, counts)
        self.alpha = alpha

    def _fit(self, x: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        from sklearn import linear_model

        fitted: Any = linear_model.Ridge(alpha=self.alpha)
        fitted.fit(as_matrix(x.double()), targets.double().numpy().ravel(), as_numpy(weight))
        return torch.from_numpy(fitted.coef_).float()[None], torch.tensor([float(fitted.intercept_)])
