"""The page for people: one HTML file without any external request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jichu.core.progress import number
from jichu.data.schema import LABEL
from jichu.data.target import Target

from . import figures, gates
from . import table as tables
from .blocks import Block
from .measure import chosen as of_result
from .page import render

_MOST_EXAMPLES, _MOST_WORST, _FORECASTS = 24, 12, 4
_LONGEST = 300  # characters of a text
Pictures = Callable[[Tensor], Tensor]


def write(
    path: Path, *, title: str, summary: dict[str, Any], audit: dict[str, Any] | None, table: pa.Table | None,
    history: list[dict[str, Any]], sections: list[tuple[str, list[Block]]], pictures: Pictures | None,
    data: dict[str, Any], environment: dict[str, Any], chosen: str | None, targets: dict[str, Target],
    data_page: str | None = None,
) -> None:  # fmt: skip
    """Render the report of a run. `sections` are what the parts of its audit tell, `pictures` shows rows, and `data_page` is
    what to link to."""
    target = targets.get(LABEL)
    asked = audit.get("gates", []) if audit else []
    shown = of_result(audit, chosen) if audit else None
    kinds = [(f"{of}_{value}", f"{words} on the {of.replace('train', 'training')} rows")
             for value, words in (("loss", "loss"), ("accuracy", "accuracy"), ("rmse", "error"))
             for of in ("train", "validation")]  # fmt: skip
    plots = {"training loss": figures.curves(history, "loss", "training loss")}
    plots |= {words: figures.curves(history, key, words) for key, words in kinds}
    probe = f"{'R²' if target and target.task == 'regression' else 'accuracy'} of a linear probe"
    plots[probe] = figures.curves(history, "linear_probe", probe)
    plots["effective rank of the features"] = figures.curves(history, "effective_rank", "effective rank")
    render(
        path, "report.html.j2",
        title=title, summary=summary, audit=audit, data=data, environment=environment, shown=shown,
        curves={k: v for k, v in plots.items() if v},
        comparison=audit and figures.comparison(
            {n: m["metrics"][audit["primary"]] for n, m in audit["models"].items()}, audit["primary"].replace("_", " ")),
        confusion=audit and shown and "confusion" in audit["models"][shown]
        and figures.confusion(audit["models"][shown]["confusion"], audit["classes"]),
        scatter=figures.scatter(*_points(table, shown), audit["column"])
        if audit and shown and table is not None and audit["task"] == "regression" else None,
        wrong=_wrong(table, shown, pictures, audit["classes"]) if audit and table is not None and shown and target
        and target.task == "classification" else [],
        worst=_worst(table, shown, target) if table is not None and shown and target and target.task != "forecast"
        and pictures is None else [],
        forecasts=_forecasts(table, target) if audit and table is not None and target and target.steps else [],
        sections=sections,
        gates=gates.table(asked) if asked else None,
        failed=[gates.words(gate) for gate in asked if not gate["holds"]],
        data_page=data_page,
    )  # fmt: skip


def _points(table: pa.Table, stage: str) -> tuple[np.ndarray, np.ndarray]:
    mine = tables.of_stage(table, stage)
    return mine["truth"].to_numpy(), mine["prediction"].to_numpy()


def _forecasts(table: pa.Table, target: Target) -> list[dict[str, str]]:
    """Some windows: what came in the first of the columns that are forecast, and what each model's first draw told."""
    stages = list(dict.fromkeys(table["stage"].to_pylist()))
    parts = {stage: tables.of_stage(table, stage).filter(pc.field("draw") == 0) for stage in stages}
    rows = len(next(iter(parts.values())))
    found = []
    for at in np.unique(np.linspace(0, rows - 1, _FORECASTS + 2).astype(int)[1:-1]).tolist():
        told = {stage: _column(part["scores"][at], target) for stage, part in parts.items()}
        first = next(iter(parts.values()))
        truth = _column(first["truth"][at], target)
        found.append(
            {"record": first["record"][at].as_py(), "chart": figures.forecast(truth, told, target.series[0])}
        )
    return found


def _column(cell: pa.Scalar, target: Target) -> np.ndarray:
    return np.array(cell.as_py(), np.float64).reshape(target.steps, -1)[:, 0]


def _worst(table: pa.Table, stage: str, target: Target) -> list[dict[str, Any]]:
    """The rows of a table with the largest loss in a model's first draw."""
    mine = tables.of_stage(table, stage)
    mine = mine.filter(pc.equal(mine["draw"], 0)).sort_by([("loss", "descending")]).slice(0, _MOST_WORST)
    return [
        {"record": row["record"], "truth": _named(target, row["truth"]), "loss": row["loss"],
         "prediction": _named(target, row["prediction"])}
        for row in mine.to_pylist()
    ]  # fmt: skip


def _named(target: Target, value: Any) -> str:
    if target.task == "classification":
        return target.classes[value]
    if target.task == "multilabel":
        return ", ".join(c for c, v in zip(target.classes, value, strict=True) if v == 1) or "–"
    if target.task == "text":
        return value if len(value) <= _LONGEST else value[:_LONGEST] + " …"
    return number(value)


def _wrong(
    table: pa.Table, stage: str, pictures: Pictures | None, classes: list[str]
) -> list[dict[str, Any]]:
    """The rows of a model's first draw that it got wrong, the surest first."""
    if pictures is None:
        return []
    rows, truth, scores = tables.scores(table, stage)
    first = scores[0]
    predicted, sure = first.argmax(1), first.max(1)
    order = np.argsort(-sure, kind="stable")
    order = order[predicted[order] != truth[order]][:_MOST_EXAMPLES]
    shown = pictures(torch.from_numpy(rows[order]))
    records = tables.of_stage(table, stage)["record"]
    return [
        {"picture": figures.data_uri(picture), "truth": classes[truth[i]],
         "prediction": classes[predicted[i]], "score": float(sure[i]), "record": records[int(i)].as_py()}
        for i, picture in zip(order, shown, strict=True)
    ]  # fmt: skip
