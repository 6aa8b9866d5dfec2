"""What the classical models have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.dataset import Dataset
from jichu.data.target import Task

ABSENT = -1e4  # log-probability, or logit, of a class of which there was no example

ClassWeights = Literal["none", "balanced"]  # balanced: each class counts alike, however many its rows


class Estimated(nn.Module):
    """A head with `estimate` in the place of training.

    `forward` gives [B, outputs]: logits whose softmax (multilabel: sigmoid) are the probabilities, or
    the numbers of a regression, in the units of the targets. Everything estimated is in buffers.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classification",)
    # what it looks at of series: "window"; of a table: "columns" are standardised numbers without gaps, categories one-hot;
    # "cells" are the numbers with NaN where missing and the codes of the categories
    reads: ClassVar[Literal["columns", "cells", "window"]] = "columns"
    # whether it takes counts: sparse features that are not negative, as a bag of words gives them
    takes_counts: ClassVar[bool] = False
    holds_rows: ClassVar[bool] = False  # whether what is estimated are rows of the data, as they are
    by: Sequence[str] = ()  # columns whose groups `estimate` is told, as codes [N]

    def __init__(self, task: Task = "classification", outputs: int = 1):
        super().__init__()
        if task not in self.tasks:
            raise UsageError(
                f"{type(self).__name__} cannot do {task}", expected=f"one of {', '.join(self.tasks)}"
            )
        if task == "regression" and outputs > 1:
            raise UsageError(
                f"{type(self).__name__} gives one number for a row, not {outputs}",
                expected="no quantiles, or the head gradient-boosting",
            )
        self.task = task

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        """Set the buffers from features [N, D] with targets as in `data.target.Target`; `population`
        [M, D] are the features of all training rows, labelled or not, and `weight` [N] says how much each
        row counts. A class without rows gets a score of almost minus infinity. UsageError where there
        are gaps in the features that the model cannot take."""
        raise NotImplementedError(f"{type(self).__name__}.estimate")

    def check(self, dataset: Dataset, weighted: bool) -> None:
        """UsageError where it cannot be estimated from these data, whose rows may be `weighted`."""

    def adopt(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the buffers the shapes of saved tensors, which depend on what was estimated, so that
        `load_state_dict` can follow."""
        for name, buffer in list(self.named_buffers()):
            if name in tensors:
                setattr(self, name, torch.empty_like(tensors[name], device=buffer.device))

    def _refuse_gaps(self, features: Tensor) -> None:
        if (features.coalesce().values() if features.is_sparse else features).isnan().any():
            raise UsageError(
                f"{type(self).__name__} cannot take features with gaps (NaN)",
                expected="a backbone that fills them, or the head gradient-boosting",
            )


def standard(population: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D] of the features of a population; 1 where they do not vary."""
    std = population.std(0, correction=0)
    return population.mean(0), torch.where(std > 1e-6, std, 1.0)


def standardised(features: Tensor, mean: Tensor, std: Tensor, unit: bool = False) -> Tensor:
    """Features [N, D] less the mean, over the deviation; scaled to length 1 where cosines are compared."""
    x = (features.float() - mean) / std
    return nn.functional.normalize(x) if unit else x


def as_matrix(features: Tensor) -> Any:
    """Features [N, D] as scikit-learn takes them: sparse where they are."""
    if not features.is_sparse:
        return features.numpy()
    from scipy.sparse import csr_matrix

    features = features.coalesce()
    return csr_matrix((features.values().double().numpy(), features.indices().numpy()), features.shape)


def linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[N, outputs] of features [N, D], sparse or not, by a weight [outputs, D]."""
    if features.is_sparse:
        return torch.sparse.mm(features.float(), weight.T) + bias
    return nn.functional.linear(features.float(), weight, bias)


def distances(x: Tensor, others: Tensor) -> Tensor:
    """Euclidean, [N, M] of x [N, D] and others [M, D]; exactly 0 where two rows are the same, as the faster way by matrix
    products does not give it."""
    if torch.compiler.is_exporting():  # for runtimes that have no such operator
        return (x[:, None] - others).square().sum(2).sqrt()
    return torch.cdist(x, others, compute_mode="donot_use_mm_for_euclid_dist")


def in_parts(x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """x [N, D] in parts of so many rows; whole where it is traced, for any number of rows."""
    return (x,) if torch.compiler.is_exporting() else x.split(max(1, rows))


def as_numpy(weight: Tensor | None, rows: Tensor | slice = slice(None)) -> object:
    """The weights of some rows as scikit-learn takes them."""
    return None if weight is None else weight[rows].numpy()
