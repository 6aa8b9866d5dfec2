"""What the table of predictions says of each model, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from jichu.core.errors import UsageError
from jichu.data.target import Target
from jichu.metrics.classification import by_class, confusion
from jichu.metrics.intervals import Interval, metric_interval

from . import table as tables

USUAL: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "log_loss", "balanced_accuracy", "macro_f1", "auroc"),
    "multilabel": ("macro_f1", "micro_f1", "average_precision", "log_loss"),
    "regression": ("rmse", "mae", "r2"),
    "forecast": ("scaled_mse", "scaled_mae"),
    "text": ("exact_match", "perplexity", "token_loss"),
    "language": ("bits_per_byte", "perplexity", "token_loss"),
}
Metric = Callable[[np.ndarray, np.ndarray], float]
Scored = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, truth and scores


def measure(
    table: pa.Table,
    target: Target,
    metrics: dict[str, Any],
    gain: list[str] | None = None,
    *,
    quantiles: dict[str, tuple[float, ...]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All metrics of all models; `gain` names two of them, whose paired difference is given. `quantiles`
    are those that models predict, by stage. CheckFailed where an answer of a model is no finite number."""
    models = {}
    classes = list(target.classes)
    for stage in dict.fromkeys(table["stage"].to_pylist()):
        tables.require_finite(table, stage)
        _, truth, scores = scored(table, stage, target)
        found = {}
        for name, metric in metrics.items():
            levels = (quantiles or {}).get(stage)
            if levels and _of_quantiles(
                metric
            ):  # each level by itself; every other metric sees the prediction
                every = tables.scores(table, stage)[2]
                found[name] = _interval(
                    name, metric.bind(quantiles=list(levels)), truth, every, seed
                )._asdict()
            else:
                found[name] = _interval(name, metric, truth, scores, seed, target.steps or 1)._asdict()
        models[stage] = {
            "metrics": found,
            "draws": len(scores),
            "rows": len(truth),
        }
        if target.task == "classification":
            counts = np.mean([confusion(truth, s) for s in scores], axis=0)
            models[stage] |= {"confusion": counts.tolist(), "by_class": _by_class(classes, counts)}
    primary = next(iter(metrics))
    result = {
        "primary": primary,
        "column": target.column,
        "task": target.task,
        "models": models,
        "classes": classes,
    }
    if gain:
        difference = paired_gain(table, gain[0], gain[1], metrics[primary], target, seed=seed)
        result["gain"] = {"of": gain, **difference._asdict()}
    return result


def scored(table: pa.Table, stage: str, target: Target) -> Scored:
    """Rows, truth and scores [D, N, K]; of a number its predictions [D, N]."""
    rows, truth, found = tables.scores(table, stage)
    if target.task == "regression":
        return rows, truth, tables.predictions(table, stage)
    if target.task == "forecast":  # windows overlap, step after step
        mean, std = tables.scale(target)
        return rows, (truth - mean) / std, (found - mean) / std
    if (
        target.task == "text"
    ):  # beside what was written stand its tokens, bytes, nats, and whether it is right
        return rows, found[0][:, :2], found[..., 2:]
    if target.task == "multilabel":  # a row that is known in part cannot be measured as one
        whole = ~np.isnan(truth).any(1)
        return rows[whole], truth[whole].astype(np.int64), found[:, whole]
    return rows, truth, found


def _of_quantiles(metric: Any) -> bool:
    return getattr(metric, "__name__", "").startswith("pinball")


def _interval(
    name: str, metric: Metric, truth: np.ndarray, scores: np.ndarray, seed: int, block: int = 1
) -> Interval:
    value = metric(truth, scores[0])
    if not isinstance(value, (int, float, np.floating, np.integer)):
        raise UsageError(
            f"the metric {name!r} gave {type(value).__name__}",
            expected="a number from truth and scores",
        )
    return metric_interval(metric, truth, scores, seed=seed, block=block)


def _by_class(classes: list[str], counts: np.ndarray) -> dict[str, Any]:
    """Of each class its figures, and its rows."""
    found = by_class(counts)
    return {
        name: {key: of[i]._asdict() for key, of in found.items()} | {"support": float(counts[i].sum())}
        for i, name in enumerate(classes)
    }


def paired_gain(
    table: pa.Table, one: str, two: str, metric: Any, target: Target, *, seed: int = 0
) -> Interval:
    """How much better model `one` is than `two` on the same rows and draws (of a loss: how much lower);
    a model with one draw is compared with every draw of the other."""
    return better_by(scored(table, one, target), scored(table, two, target), metric, target, (one, two), seed)


def better_by(
    one: Scored, two: Scored, metric: Any, target: Target, names: tuple[str, str], seed: int = 0
) -> Interval:
    """The same of two models by what they say of their rows. UsageError where those are not the same, or the draws neither
    as many nor one."""
    (rows, truth, a), (rows_b, _, b) = one, two
    if not np.array_equal(rows, rows_b):
        raise UsageError(
            f"{names[0]} and {names[1]} were measured on different rows", expected="the same held-out rows"
        )
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise UsageError(f"{names[0]} has {len(a)} draws, {names[1]} {len(b)}", expected="as many, or one")
    if getattr(metric, "lower_is_better", False):
        a, b = b, a
    return metric_interval(metric, truth, a, against=b, seed=seed, block=target.steps or 1)


def chosen(found: dict[str, Any], stage: str | None) -> str:
    """The stage whose model an audit is about: the run's result, or the first that was measured where that was not."""
    return stage if stage and stage in found["models"] else next(iter(found["models"]))


def headline(found: dict[str, Any]) -> dict[str, Any]:
    """{name: {"value", "low", "high"}}: the first metric of each model where there are several, every
    metric where there is one; and the gain."""
    models, primary = found["models"], found["primary"]
    if len(models) == 1:
        result = dict(next(iter(models.values()))["metrics"])
    else:
        result = {name: model["metrics"][primary] for name, model in models.items()}
    if "gain" in found:
        result["gain"] = {k: found["gain"][k] for k in ("value", "low", "high")}
    for column, other in found.get("others", {}).items():
        result |= {f"{column}: {name}": interval for name, interval in headline(other).items()}
    return result
