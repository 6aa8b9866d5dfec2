"""A linear model that keeps the gap between groups small while it is fitted."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError, missing_extra
from jichu.data.dataset import Dataset
from jichu.data.target import Task
from jichu.metrics.thresholds import Goal

from ..backbone import Features
from .estimated import Estimated, linear, standard, standardised

_SURE = 1e-6  # the least probability that is told
_GOALS = {
    "demographic_parity": "DemographicParity",
    "equal_opportunity": "TruePositiveRateParity",
    "equalised_odds": "EqualizedOdds",
}


class FairLogisticRegression(Estimated):
    """Logistic regressions that vote, found by exponentiated gradient (Agarwal et al., 2018, arXiv 1803.02453; fairlearn):
    under all votes whose gap between the groups of the columns `by` is at most `slack` on the training rows, those with
    the fewest errors, a vote being drawn at random. What is told is the share of the votes. Of two classes; groups are
    asked for when it is fitted, and not when it predicts."""

    weight: Tensor
    bias: Tensor
    share: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        by: list[str] = [],  # noqa: B006 (read only)
        goal: Goal = "demographic_parity",
        slack: Annotated[float, Field(gt=0, lt=1)] = 0.01,
        rounds: Annotated[int, Field(ge=1)] = 50,
        c: Annotated[float, Field(gt=0)] = 1.0,
    ):
        super().__init__(task, outputs)
        self.outputs, self.by = outputs, by
        self.goal, self.slack, self.rounds, self.c = goal, slack, rounds, c
        self.register_buffer("weight", torch.zeros(1, width))  # [models, D]
        self.register_buffer("bias", torch.zeros(1))
        self.register_buffer("share", torch.ones(1))

    def check(self, dataset: Dataset, weighted: bool) -> None:
        """UsageError where there are no such columns or more classes, or rows have weights."""
        if not self.by:
            raise UsageError(
                "fair-logistic-regression has no groups", where="head.by", expected="columns, such as [sex]"
            )
        for name in self.by:
            dataset.column(name, "head.by")
        if self.outputs != 2:
            raise UsageError(
                f"fair-logistic-regression tells two classes apart, not {self.outputs}", where="head"
            )
        if weighted:
            raise UsageError(
                "fair-logistic-regression takes no weights of rows", where="head",
                expected="neither reweigh nor data.weight, or the head logistic-regression",
            )  # fmt: skip
        _reductions()

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> None:  # fmt: skip
        from sklearn import linear_model

        assert groups is not None and weight is None
        self._refuse_gaps(features)
        mean, std = standard(population)
        reductions = _reductions()
        fitted = reductions.ExponentiatedGradient(
            linear_model.LogisticRegression(C=self.c, max_iter=1000),
            getattr(reductions, _GOALS[self.goal])(difference_bound=self.slack),
            max_iter=self.rounds,
        )
        x = standardised(features, mean, std).numpy()
        with warnings.catch_warnings():  # of what pandas will no longer take from fairlearn
            warnings.simplefilter("ignore", DeprecationWarning)
            fitted.fit(x, targets.numpy(), sensitive_features=groups.numpy())
        shares = fitted.weights_[fitted.weights_ > 0]
        voting = [fitted.predictors_[i] for i in shares.index]
        slopes, constants = zip(*(_affine(model, len(mean)) for model in voting), strict=True)
        self.share = torch.tensor(shares.to_numpy()).float()
        self.weight = torch.stack(slopes) / std
        self.bias = torch.stack(constants) - self.weight @ mean

    def forward(self, features: Features) -> Tensor:
        votes = linear(features.pooled, self.weight, self.bias) > 0
        odds = votes.float() @ self.share
        return torch.stack([1 - odds, odds], 1).clamp(min=_SURE).log()


def _affine(model: Any, width: int) -> tuple[Tensor, Tensor]:
    """Slopes [D] and the constant of a vote; where one answer was right for all rows, it is always that."""
    if hasattr(model, "coef_"):
        return torch.from_numpy(model.coef_[0]).float(), torch.tensor(float(model.intercept_[0]))
    return torch.zeros(width), torch.tensor(2.0 * float(model.constant) - 1)


def _reductions() -> Any:
    try:
        from fairlearn import reductions
    except ImportError:
        raise missing_extra("fairlearn", "fairness") from None
    return reductions
