"""Rows that count more or less, so that what is learnt does not follow from the group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.dataset import Dataset
from jichu.data.groups import together
from jichu.data.schema import LABEL, WEIGHT


def check_reweigh(columns: list[str], dataset: Dataset, where: str) -> None:
    """UsageError where there are no such columns, or no classes."""
    tasks = [target.task for target in dataset.targets.values()]
    if tasks != ["classification"]:
        raise UsageError(
            f"reweigh evens out the classes of one target, and these data ask for {' and '.join(tasks)}",
            where=f"{where}.reweigh", expected="no such key",
        )  # fmt: skip
    for name in columns:
        dataset.column(name, f"{where}.reweigh")


def reweighed(dataset: Dataset, columns: list[str], rows: Tensor) -> Dataset:
    """The data set in which group and class are independent among the rows (Kamiran and Calders, 2012): a row of group g
    and class y counts P(g) P(y) / P(g, y) times, beside what a column of weights says."""
    among = rows.numpy()
    codes = together(dataset, columns, among).codes
    labels = dataset.tensors[LABEL].numpy()
    before = dataset.tensors.get(WEIGHT, torch.ones(len(dataset)))
    counts = np.zeros((codes.max() + 1, len(dataset.targets[LABEL].classes)))
    np.add.at(counts, (codes[among], labels[among]), before[rows].numpy())
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    factors = np.where(counts > 0, expected / np.where(counts > 0, counts, 1), 1.0)
    found = np.where(labels >= 0, factors[codes, labels], 1.0)  # a row without label has none to follow
    return replace(dataset, tensors={**dataset.tensors, WEIGHT: before * torch.from_numpy(found).float()})
