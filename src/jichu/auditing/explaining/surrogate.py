"""A small tree that says what a model says, as rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.data.schema import TableSchema
from jichu.data.target import Target

_MOST_VALUES = 20  # of a category that may become a question
_FEWEST = 5  # rows of a leaf


def common(columns: dict[str, Tensor], table: TableSchema) -> list[list[int]]:
    """Of each category the codes of the values that most rows have."""
    found = []
    for i, values in enumerate(table.categories.values()):
        counts = torch.bincount(columns["categories"][:, i], minlength=len(values) + 1)[1:]  # 0 is missing
        most = counts.argsort(descending=True, stable=True)[:_MOST_VALUES]
        found.append(sorted((most[counts[most] > 0] + 1).tolist()))
    return found


def cells(
    columns: dict[str, Tensor], table: TableSchema, values: list[list[int]]
) -> tuple[np.ndarray, list[str]]:
    """The rows of a table as a tree reads them, [N, D], and what each of the D is called: numbers as they are, and of each
    category whether it has one of some values."""
    parts: list[Tensor] = []
    names: list[str] = []
    if "numbers" in columns:
        parts.append(columns["numbers"])
        names += table.number_names
    for i, ((name, classes), codes) in enumerate(zip(table.categories.items(), values, strict=True)):
        parts.append((columns["categories"][:, i : i + 1] == torch.tensor(codes)).float())
        names += [f"{name} = {classes[code - 1]}" for code in codes]
    return torch.cat(parts, 1).numpy(), names


def fit(x: np.ndarray, told: np.ndarray, target: Target, depth: int, seed: int) -> Any:
    """A tree of scikit-learn that gives what the model told of the rows: codes of classes, or numbers."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeRegressor if target.task == "regression" else DecisionTreeClassifier
    return kind(max_depth=depth, min_samples_leaf=_FEWEST, random_state=seed).fit(x, told)


def rules(tree: Any, names: list[str], target: Target) -> list[tuple[str, str, int]]:
    """Each leaf: what leads to it, what the model says there, and how many of the rows it was fitted to are there."""
    inner, numeric = tree.tree_, target.task == "regression"
    found: list[tuple[str, str, int]] = []

    def walk(node: int, before: dict[tuple[int, str], str]) -> None:
        feature, threshold = int(inner.feature[node]), float(inner.threshold[node])
        if inner.children_left[node] < 0:
            value = inner.value[node].ravel()
            said = f"{value[0]:.4g}" if numeric else target.classes[tree.classes_[value.argmax()]]
            found.append((" and ".join(before.values()) or "always", said, int(inner.n_node_samples[node])))
            return
        for child, side in ((inner.children_left[node], "≤"), (inner.children_right[node], ">")):
            # a later bound of a column is the closer one
            walk(child, {**before, (feature, side): _condition(names[feature], side, threshold)})

    walk(0, {})
    return found


def _condition(name: str, side: str, threshold: float) -> str:
    """Of a number its bound; of a category whether it has the value."""
    if " = " not in name:
        return f"{name} {side} {threshold:.4g}"
    return name if side == ">" else name.replace(" = ", " ≠ ", 1)
