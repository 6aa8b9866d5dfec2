"""A closer look at a data set than loading takes: near duplicates, and columns that give the answer away."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset
from .duplicates import exact_groups, near_images, near_rows
from .schema import LABEL

_ROWS = 5000  # rows that a column alone is tried on
_SUSPECT = 0.95  # AUROC or R² from which one column alone is suspected to hold the answer
_HEADER = 0.80  # the AUROC from which an image's size or format is: it ought to say nothing
_SHOWN = 20


def inspect(dataset: Dataset) -> dict[str, Any]:
    """`dataset.summary()` with `near_duplicates`, `leakage` and `remarks` in words."""
    found = dataset.summary()
    found["near_duplicates"] = near_duplicates(dataset)
    found["leakage"] = leakage(dataset)
    found["remarks"] = _remarks(dataset, found)
    return found


def near_duplicates(dataset: Dataset) -> dict[str, Any]:
    """Records that are nearly but not quite the same: how many, how many of them in different splits, and
    the first pairs as [record, record, their splits]."""
    if "image" in dataset.tensors:
        images = dataset.tensors["image"]
        exact = exact_groups(images)
        pairs = near_images(images)
        pairs = pairs[exact[pairs[:, 0]] != exact[pairs[:, 1]]]
    else:
        pairs = _pairs(near_rows(dataset.tensors.get("numbers"), dataset.tensors.get("categories")))
        same = [dataset.tensors[n][pairs[:, 0]] == dataset.tensors[n][pairs[:, 1]]
                for n in ("numbers", "categories") if n in dataset.tensors]  # fmt: skip
        if same:
            pairs = pairs[~torch.cat(same, 1).all(1).numpy()]
    split_of = np.full(len(dataset), "", object)
    for name, rows in dataset.splits.items():
        split_of[rows.numpy()] = name
    one, other = split_of[pairs[:, 0]], split_of[pairs[:, 1]]
    across = (one != other) & (one != "") & (other != "")
    first = np.concatenate([pairs[across], pairs[~across]])[:_SHOWN]
    shown = [
        [dataset.names[a], dataset.names[b], f"{split_of[a]} and {split_of[b]}"] for a, b in first.tolist()
    ]
    return {"pairs": len(pairs), "across_splits": int(across.sum()), "first": shown, "rows": first.tolist()}


def _pairs(groups: np.ndarray) -> np.ndarray:
    """Each row of a group with the group's first, [P, 2]."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rows = np.arange(len(groups))
    later = first[member] != rows
    return np.stack([first[member][later], rows[later]], axis=1)


def leakage(dataset: Dataset) -> list[dict[str, Any]]:
    """Columns that tell the target almost by themselves, [{"column", "score", "measure"}], worst first: what
    a small tree makes of each alone, on rows it was not fitted to. Of images the width, height and size of
    the file are tried, which ought to say nothing."""
    if LABEL not in dataset.targets:
        return []
    rows = dataset.labelled("train")
    rows = rows[dataset.known(rows)]
    found: list[dict[str, Any]] = []
    if "image" in dataset.tensors:
        found += _of_headers(dataset, rows)
    rows = rows[:: max(1, len(rows) // _ROWS)]
    for block, names in (
        ("numbers", dataset.table.number_names),
        ("categories", [*dataset.table.categories]),
    ):
        if block in dataset.tensors:
            values = dataset.tensors[block][rows].numpy()
            for i, name in enumerate(names):
                score, measure = _alone(values[:, i], block == "categories", dataset.tensors[LABEL][rows])
                if score >= _SUSPECT:
                    found.append({"column": name, "score": score, "measure": measure})
    return sorted(found, key=lambda f: -f["score"])


def _of_headers(dataset: Dataset, rows: Tensor) -> list[dict[str, Any]]:
    # headers are told by the row of the source, which is the data set's where nothing was dropped before it
    known = [r for r in rows.tolist() if r in dataset.headers] if not dataset.quarantine else []
    if len(known) < 50 or dataset.targets[LABEL].task != "classification":
        return []
    headers = [dataset.headers[r] for r in known]
    about = {
        "width of the image": [h.width for h in headers],
        "height of the image": [h.height for h in headers],
        "size of the file": [h.nbytes or 0 for h in headers],
        "colour of the file": [h.colour for h in headers],
    }
    found = []
    for name, values in about.items():
        score, measure = _alone(np.array(values, np.float64), False, dataset.tensors[LABEL][known])
        if score >= _HEADER:
            found.append({"column": name, "score": score, "measure": measure})
    return found


def _alone(values: np.ndarray, codes: bool, target: Tensor) -> tuple[float, str]:
    """AUROC (one against the rest, mean) or R² of a tree on one column, three-fold."""
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    truth = target.numpy()
    if truth.ndim > 1 or len(np.unique(values[~np.isnan(values)] if not codes else values)) < 2:
        return 0.0, ""
    x = np.nan_to_num(values, nan=-1e9)[:, None]
    if truth.dtype.kind == "f":
        if len(truth) < 10:
            return 0.0, ""
        folds = KFold(3, shuffle=True, random_state=0)
        predicted = cross_val_predict(
            DecisionTreeRegressor(max_leaf_nodes=32, min_samples_leaf=5), x, truth, cv=folds
        )
        return float(r2_score(truth, predicted)), "R²"
    classes, counts = np.unique(truth, return_counts=True)
    common = classes[counts >= 3]
    kept = np.isin(truth, common)
    if len(common) < 2:
        return 0.0, ""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    tree = DecisionTreeClassifier(max_leaf_nodes=max(32, 2 * len(common)), min_samples_leaf=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = cross_val_predict(tree, x[kept], truth[kept], cv=folds, method="predict_proba")
    each = [roc_auc_score(truth[kept] == c, scores[:, i]) for i, c in enumerate(common)]
    return float(np.mean(each)), "AUROC"


def _remarks(dataset: Dataset, found: dict[str, Any]) -> list[str]:
    """What somebody should know before training, in words."""
    remarks = [
        f"{f['column']} tells the target almost by itself ({f['measure']} {f['score']:.3f}): would it be known"
        " when a prediction is wanted?" if f["score"] >= _SUSPECT else
        f"the {f['column']} alone says much of the class ({f['measure']} {f['score']:.2f}): it may be learned instead"
        for f in found["leakage"]
    ]  # fmt: skip
    near = found["near_duplicates"]
    if near["across_splits"]:
        remarks.append(
            f"{near['across_splits']} records look nearly the same as one in another split: held-out figures may flatter"
        )
    for name, split in found["splits"].items():
        counts = [n for n in split["classes"].values() if n]
        if name == "train" and len(counts) > 1 and max(counts) > 5 * min(counts):
            remarks.append(
                f"the classes are unbalanced ({max(counts)} to {min(counts)}): look at balanced_accuracy or auroc,"
                " and at class_weights: balanced"
            )
        if name == "train" and counts and min(counts) < 10:
            few = [c for c, n in split["classes"].items() if 0 < n < 10]
            remarks.append(f"fewer than 10 training rows of {', '.join(few[:5])}")
    for key, target in dataset.targets.items():
        if key == LABEL and target.task == "classification" and len(target.classes) < 2:
            remarks.append(f"{target.column} has one class only: nothing can be learned from labels")
    return remarks
