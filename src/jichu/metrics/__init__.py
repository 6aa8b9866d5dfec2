"""Metrics with intervals, by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct, resolve
from jichu.data.target import Task

from .base import Metric

METRICS = {
    "accuracy": "jichu.metrics.classification:accuracy",
    "auroc": "jichu.metrics.ranking:auroc",
    "average_precision": "jichu.metrics.ranking:average_precision",
    "balanced_accuracy": "jichu.metrics.classification:balanced_accuracy",
    "bits_per_byte": "jichu.metrics.language:bits_per_byte",
    "brier": "jichu.metrics.classification:brier",
    "ece": "jichu.metrics.calibration:ece",
    "exact_match": "jichu.metrics.language:exact_match",
    "hamming_loss": "jichu.metrics.classification:hamming_loss",
    "log_loss": "jichu.metrics.classification:log_loss",
    "macro_f1": "jichu.metrics.classification:macro_f1",
    "macro_precision": "jichu.metrics.classification:macro_precision",
    "macro_recall": "jichu.metrics.classification:macro_recall",
    "mae": "jichu.metrics.regression:mae",
    "matthews": "jichu.metrics.classification:matthews",
    "median_absolute_error": "jichu.metrics.regression:median_absolute_error",
    "micro_f1": "jichu.metrics.classification:micro_f1",
    "micro_precision": "jichu.metrics.classification:micro_precision",
    "micro_recall": "jichu.metrics.classification:micro_recall",
    "mse": "jichu.metrics.regression:mse",
    "perplexity": "jichu.metrics.language:perplexity",
    "pinball": "jichu.metrics.regression:pinball",
    "r2": "jichu.metrics.regression:r2",
    "recall_at_specificity": "jichu.metrics.ranking:recall_at_specificity",
    "rmse": "jichu.metrics.regression:rmse",
    "scaled_mae": "jichu.metrics.forecasting:scaled_mae",
    "scaled_mse": "jichu.metrics.forecasting:scaled_mse",
    "token_loss": "jichu.metrics.language:token_loss",
    "top5_accuracy": "jichu.metrics.classification:top5_accuracy",
    "top_k_accuracy": "jichu.metrics.classification:top_k_accuracy",
    "weighted_f1": "jichu.metrics.classification:weighted_f1",
    "weighted_precision": "jichu.metrics.classification:weighted_precision",
    "weighted_recall": "jichu.metrics.classification:weighted_recall",
}


def fits(task: Task) -> list[str]:
    """The names of the metrics for a task."""
    return [name for name in METRICS if task in getattr(resolve("metric", name, METRICS), "tasks", ())]


def metric(name: str, *, task: Task | None = None, where: str = "", **arguments: Any) -> Callable[..., float]:
    """The metric of a name or import path, its arguments checked and set; UsageError where it is not for
    the task. A function of one's own may be for any."""
    found = resolve("metric", name, METRICS, where=where)
    if not callable(found):
        raise UsageError(f"{name} is {found!r}", where=where, expected="a function of truth and scores")
    tasks = getattr(found, "tasks", None)
    if task and tasks and task not in tasks:
        raise UsageError(
            f"the metric {name} is for {' and '.join(tasks)}, not for {task}",
            where=where,
            expected=f"one of {', '.join(fits(task))}",
        )
    rows = list(inspect.signature(found).parameters)[:2]  # truth and scores, whatever they are called
    if isinstance(found, Metric):
        rows.append("weights")
    made: Any = construct("metric", Spec(name=name, **arguments), METRICS, where=where, **dict.fromkeys(rows))
    checked = {key: value for key, value in made.keywords.items() if key not in rows}
    if not checked:
        return found
    if isinstance(found, Metric):
        return found.bind(**checked)
    return functools.update_wrapper(functools.partial(found, **checked), found)
