"""Gradient-boosted trees."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.target import Task

from ..backbone import Features
from .estimated import ABSENT, ClassWeights, Estimated, as_numpy, in_parts

_CATEGORIES = 255  # that scikit-learn tells apart in a column
_CELLS = 2**22  # rows × trees looked at at once
_Positive = Annotated[int, Field(ge=1)]
_OF_TREES = {
    # of each tree: its first node, and the output it adds to
    "root": torch.long, "output": torch.long,
    # of each node; the children of a leaf are the leaf itself
    "feature": torch.long, "threshold": torch.double, "left": torch.long, "right": torch.long,
    "missing_left": torch.bool, "value": torch.double,
    "split": torch.long,  # which row of `goes_left`, -1 where it is by a number
    # of each split by category, [256]
    "goes_left": torch.bool,
}  # fmt: skip


class GradientBoosting(Estimated):
    """Gradient-boosted trees (Friedman, 2001), grown leaf by leaf on histograms (Ke et al., 2017).

    Missing numbers and categories are taken as they are; `categorical` tells which features are codes of
    categories. Of a column's categories those beyond the 255 most frequent, and those never seen, count
    as missing. Of several labels, and of several quantiles, each has trees of its own.

    With `patience` a tenth of the rows are kept aside, and growing stops after so many trees without gain
    on them; where there are too few rows of a class for that, all the trees are grown.
    """

    tasks = ("classification", "multilabel", "regression")
    reads = "cells"
    baseline: Tensor
    codes: Tensor
    depth: Tensor
    root: Tensor
    output: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor
    split: Tensor
    goes_left: Tensor

    def __init__(
        self,
        width: int,
        outputs: int,
        task: Task = "classification",
        categorical: list[bool] | None = None,
        quantiles: tuple[float, ...] = (),
        trees: _Positive = 100,
        learning_rate: Annotated[float, Field(gt=0)] = 0.1,
        leaves: Annotated[int, Field(ge=2)] = 31,
        leaf_rows: _Positive = 20,
        max_depth: _Positive | None = None,
        l2: Annotated[float, Field(ge=0)] = 0.0,
        patience: _Positive | None = None,
        class_weights: ClassWeights = "none",
    ):
        super().__init__(task, 1 if outputs == len(quantiles) else outputs)
        if task == "regression" and class_weights != "none":
            raise UsageError("a regression has no classes to weigh", expected="class_weights: none")
        is_code = categorical or [False] * width
        # categories first, as scikit-learn has them
        self.order = [i for i in range(width) if is_code[i]] + [i for i in range(width) if not is_code[i]]
        self.categories = sum(is_code)
        self.outputs, self.quantiles = outputs, quantiles
        self.patience, self.class_weights = patience, class_weights
        self.settings = {
            "max_iter": trees, "learning_rate": learning_rate, "max_leaf_nodes": leaves,
            "min_samples_leaf": leaf_rows, "max_depth": max_depth, "l2_regularization": l2,
        }  # fmt: skip
        self.register_buffer("baseline", torch.zeros(outputs, dtype=torch.double))
        # [categorical columns, codes + 1]: a category's number among those told apart, else NaN
        self.register_buffer("codes", torch.full((self.categories, 1), torch.nan, dtype=torch.double))
        self.register_buffer("depth", torch.tensor(0))  # of the deepest tree
        for name, dtype in _OF_TREES.items():
            self.register_buffer(name, torch.empty(0, *[256] * (name == "goes_left"), dtype=dtype))

    def estimate(
        self, features: Tensor, targets: Tensor, population: Tensor, weight: Tensor | None = None
    ) -> None:
        self.codes = self._tell_apart(features)
        x = self._encode(features).numpy()
        self.baseline = torch.zeros(self.outputs, dtype=torch.double)
        grown: list[tuple[Any, np.ndarray, list[int]]] = []  # models, what they saw, outputs of their trees
        if self.task == "classification":
            present = targets.unique().tolist()
            self.baseline.fill_(ABSENT)
            self.baseline[present] = 0
            if len(present) > 1:  # of two classes, the trees tell the logit of the second
                model = self._classifier(targets).fit(x, targets.numpy(), as_numpy(weight))
                grown.append((model, x, present if len(present) > 2 else present[1:]))
        elif self.task == "multilabel":
            for i, label in enumerate(targets.T):
                known = ~label.isnan()
                codes, seen = label[known].long(), x[known.numpy()]
                if len(codes.unique()) > 1:
                    model = self._classifier(codes).fit(seen, codes.numpy(), as_numpy(weight, known))
                    grown.append((model, seen, [i]))
                elif len(codes):  # always the one or always the other
                    self.baseline[i] = -ABSENT if codes[0] else ABSENT
        else:
            y = targets.double().numpy().ravel()
            for i, quantile in enumerate(self.quantiles or [None]):
                model = self._regressor(len(y), quantile).fit(x, y, as_numpy(weight))
                grown.append((model, x, [i]))
        self._keep(grown)

    def _classifier(self, codes: Tensor) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        rows = codes.unique(return_counts=True)[1]
        enough = int(rows.min()) >= 2 and math.ceil(len(codes) / 10) >= len(rows)
        balanced = "balanced" if self.class_weights == "balanced" else None
        return HistGradientBoostingClassifier(class_weight=balanced, **self._settings(enough))

    def _regressor(self, rows: int, quantile: float | None) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        loss = "squared_error" if quantile is None else "quantile"
        return HistGradientBoostingRegressor(loss=loss, quantile=quantile, **self._settings(rows >= 10))

    def _settings(self, enough_rows: bool) -> dict[str, Any]:
        stops = self.patience is not None and enough_rows
        return {
            **self.settings,
            "early_stopping": stops,
            "n_iter_no_change": self.patience or 10,
            "categorical_features": list(range(self.categories)) or None,
            "random_state": 0,
        }

    def _tell_apart(self, features: Tensor) -> Tensor:
        """`codes` of the most frequent categories."""
        columns = features[:, self.order[: self.categories]].double()
        most = int(columns.nan_to_num(0).max()) if columns.numel() else -1
        codes = torch.full((self.categories, most + 2), torch.nan, dtype=torch.double)
        for column, row in zip(columns.T, codes, strict=True):
            found, rows = column[~column.isnan()].long().unique(return_counts=True)
            kept = found[rows.argsort(descending=True, stable=True)[:_CATEGORIES]].sort().values
            row[kept] = torch.arange(len(kept), dtype=torch.double)
        return codes

    def _encode(self, features: Tensor) -> Tensor:
        """Features [B, D], categories first and told apart."""
        x = features.double()[:, self.order]
        if not self.categories:
            return x
        last = self.codes.shape[1] - 1  # stands for what is missing or beyond
        index = x[:, : self.categories].nan_to_num(nan=last).clamp(0, last).long()
        return torch.cat([self.codes.gather(1, index.T).T, x[:, self.categories :]], 1)

    def _keep(self, grown: list[tuple[Any, np.ndarray, list[int]]]) -> None:
        """Take over the trees of fitted models."""
        parts: dict[str, list[Any]] = {name: [] for name in _OF_TREES}
        nodes, splits, depth = 0, 0, 0
        for model, x, outputs in grown:
            self.baseline[outputs] += torch.from_numpy(model._baseline_prediction.ravel())
            seen = [np.unique(c[~np.isnan(c)]).astype(int) for c in x[:, : self.categories].T]
            for tree, output in [pair for trees in model._predictors for pair in zip(trees, outputs)]:
                of, table = tree.nodes, _by_category(tree, seen)
                leaf, own = of["is_leaf"] > 0, np.arange(len(of))
                found = {
                    "root": [nodes],
                    "output": [output],
                    "feature": of["feature_idx"],
                    "threshold": of["num_threshold"],
                    "left": nodes + np.where(leaf, own, of["left"]),
                    "right": nodes + np.where(leaf, own, of["right"]),
                    "missing_left": of["missing_go_to_left"],
                    "value": of["value"],
                    "split": np.where(of["is_categorical"], splits + of["bitset_idx"].astype(int), -1),
                    "goes_left": table,
                }
                for name, values in found.items():
                    parts[name].append(values)
                nodes, splits = nodes + len(of), splits + len(table)
                depth = max(depth, int(of["depth"].max()))
        self.depth = torch.tensor(depth)
        for name, values in parts.items():
            none = getattr(self, name)[:0]
            whole = np.concatenate([none.numpy(), *values])
            setattr(self, name, torch.from_numpy(whole).to(none.dtype))

    def forward(self, features: Features) -> Tensor:
        parts = in_parts(self._encode(features.pooled), _CELLS // max(1, len(self.root)))
        return torch.cat([self._sum(part) for part in parts]).float()

    def _sum(self, x: Tensor) -> Tensor:
        """What the leaves add up to, [B, outputs], for encoded features [B, D]."""
        at = self.root.expand(x.shape[0], -1)  # where each row is in each tree
        for _ in range(int(self.depth)):
            value = x.gather(1, self.feature[at])
            left = value <= self.threshold[at]
            if len(self.goes_left):
                split = self.split[at]
                by_category = self.goes_left[split.clamp(0), value.nan_to_num().clamp(0, 255).long()]
                left = _choice(split >= 0, by_category, left)
            left = _choice(value.isnan(), self.missing_left[at], left)
            at = torch.where(left, self.left[at], self.right[at])
        return self.baseline.repeat(x.shape[0], 1).index_add(1, self.output, self.value[at])


def _choice(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`torch.where` of truth values, of which ONNX Runtime has none."""
    return (condition & one) | (~condition & other)


def _by_category(tree: Any, seen: list[np.ndarray]) -> np.ndarray:
    """[splits, 256]: whether a category goes left. scikit-learn numbers those that it has `seen` of each
    column; another goes where the missing go."""
    bits = np.unpackbits(tree.raw_left_cat_bitsets.astype("<u4").view(np.uint8), axis=1, bitorder="little")
    table = np.empty((len(bits), 256), bool)
    for node in tree.nodes[tree.nodes["is_categorical"] > 0]:
        row, codes = node["bitset_idx"], seen[node["feature_idx"]]
        table[row] = node["missing_go_to_left"]
        table[row, codes] = bits[row, : len(codes)]
    return table
