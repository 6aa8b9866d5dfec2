"""The page for people: one HTML file without any external request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jichu.core.progress import clock
from jichu.core.words import named, retold, words
from jichu.data.schema import LABEL
from jichu.data.target import Target

from . import figures, gates, verdict
from . import table as tables
from .blocks import Block, Figure, Note, Pictures, Records, Section, Table, Written, interval
from .measure import chosen as of_result
from .page import render

_MOST_EXAMPLES, _MOST_WORST, _FORECASTS = 24, 12, 4
_LONGEST = 300  # characters of a text
_MOST_CLASSES = 12  # that have a column of their own
Shown = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Told:
    """All that a report is made of. `sections` are what the parts of the audit tell, `pictures` shows rows, and `data_page` is
    what to link to."""

    title: str
    summary: dict[str, Any]
    audit: dict[str, Any] | None
    table: pa.Table | None
    history: list[dict[str, Any]]
    sections: list[Section]
    pictures: Shown | None
    data: dict[str, Any]
    environment: dict[str, Any]
    chosen: str | None
    targets: dict[str, Target]
    data_page: str | None = None

    @property
    def target(self) -> Target | None:
        """The first, which the rows that are shown are about."""
        return self.targets.get(LABEL)


def write(path: Path, **told: Any) -> None:
    """Render the report of a run: `told` is what `Told` has."""
    about = Told(**told)
    audit = about.audit
    render(
        path, "report.html.j2", title=about.title, lead=_lead(about), data_page=about.data_page,
        cards=verdict.cards(audit, about.chosen) if audit else [],
        gates=[gate["holds"] for gate in audit.get("gates", [])] if audit else [],
        worries=list(verdict.worries(audit, about.chosen, about.targets)) if audit else [],
        warnings=verdict.warnings(about.summary),
        sections=[(title, blocks) for title, blocks in _sections(about) if blocks],
    )  # fmt: skip


def _lead(told: Told) -> list[str]:
    """What the run is about, in a line."""
    data, audit, environment = told.data, told.audit, told.environment
    does = (
        words("{count:,} classes", count=len(data["classes"])) if data["classes"] else words("without labels")
    )
    if audit and audit["task"] == "regression":
        does = words("predicts {column}", column=audit["column"])
    elif audit and audit["task"] == "forecast":
        does = words("forecasts {column}", column=audit["column"])
    elif audit and audit["task"] == "text":
        does = words("writes {column}", column=audit["column"])
    took = words(
        "{time} on {cores} cores", time=clock(told.summary["seconds"]), cores=environment.get("cores", "?")
    )
    return [data["source"], words("{rows:,} records", rows=data["rows"]), does, took]


def _sections(told: Told) -> Iterator[Section]:
    """Title and blocks of all that is told, the answers first and what led to them last."""
    audit, table, target = told.audit, told.table, told.target
    if audit:
        if audit.get("gates"):
            yield words("Gates"), [gates.table(audit["gates"])]
        yield words("How good"), list(_how_good(audit))
        yield from _rows(told, audit, of_result(audit, told.chosen)) if table is not None and target else ()
    yield from told.sections
    for stage in told.summary["stages"]:
        if stage.get("written"):
            yield words("What it writes: {stage}", stage=stage["name"]), list(_written(stage["written"]))
    yield words("Learning"), [Figure(curve) for curve in _curves(told) if curve]
    yield words("Data"), list(_data(told.data))
    yield words("Cost of training"), list(_cost(told.summary, told.environment))


# --- how good


def results(audit: dict[str, Any]) -> Table:
    """Every metric of every model, with intervals, draws and rows."""
    models = audit["models"]
    names = list(next(iter(models.values()))["metrics"])
    rows = [[name, *(m["metrics"][n] for n in names), m["draws"], m["rows"]] for name, m in models.items()]
    return Table([words("model"), *map(named, names), words("draws"), words("held-out rows")], rows)


def _how_good(audit: dict[str, Any]) -> Iterator[Block]:
    primary = audit["primary"]
    told = {name: model["metrics"][primary] for name, model in audit["models"].items()}
    yield Figure(figures.comparison(told, named(primary)))
    yield results(audit)
    if "gain" in audit:
        yield _gain(audit)
    yield Note(brackets())
    for column, other in audit.get("others", {}).items():
        yield Note(words("Of {column}:", column=column))
        yield results(other)


def brackets() -> str:
    """What stands in the square brackets of all tables."""
    return words(
        "Square brackets hold 95% bootstrap intervals; held-out rows and draws of the labels are both resampled."
    )


def _gain(audit: dict[str, Any]) -> Note:
    gain = audit["gain"]
    shown, ends = interval(gain)
    about = {
        "one": gain["of"][0],
        "two": gain["of"][1],
        "metric": named(audit["primary"]),
        "gain": f"{shown} {ends}",
    }
    about["rows"] = audit["models"][gain["of"][0]]["rows"]
    if (gain["low"] or 0) > 0 or (gain["high"] or 0) < 0:
        return Note(
            words(
                "Gain of {one} over {two} in {metric}, paired by row and draw: {gain} on {rows:,} rows.",
                **about,
            )
        )
    return Note(
        words(
            "Gain of {one} over {two} in {metric}, paired by row and draw: {gain} on {rows:,} rows; the interval holds zero,"
            " so this run does not show a difference.", **about,
        )
    )  # fmt: skip


# --- rows of the data


def _rows(told: Told, audit: dict[str, Any], stage: str) -> Iterator[Section]:
    """What is taken for what, and the rows that show it."""
    table, target = told.table, told.target
    assert table is not None and target is not None
    drawn = words("{stage}, first draw", stage=stage) if audit["models"][stage]["draws"] > 1 else stage
    if "confusion" in audit["models"][stage]:
        yield words("What is taken for what: {stage}", stage=stage), list(_confusion(audit, stage))
    if target.task == "classification" and told.pictures is not None:
        wrong = _wrong(table, stage, told.pictures, audit["classes"])
        yield words("Wrong, the surest first: {stage}", stage=drawn), wrong
    if target.task == "regression":
        yield (
            words("Predicted and true: {stage}", stage=stage),
            [Figure(_scatter(table, stage, audit["column"]))],
        )
    if target.task == "forecast":
        yield words("Some forecasts"), list(_forecasts(table, target))
    elif told.pictures is None:
        yield words("Worst rows: {stage}", stage=drawn), [_worst(table, stage, target)]


def _confusion(audit: dict[str, Any], stage: str) -> Iterator[Block]:
    model = audit["models"][stage]
    yield Note(
        words("Counts of {rows:,} held-out rows.", rows=model["rows"]) if model["draws"] == 1 else
        words("Counts of {rows:,} held-out rows, mean over {draws} draws.", rows=model["rows"], draws=model["draws"])
    )  # fmt: skip
    yield Figure(figures.confusion(model["confusion"], audit["classes"]))
    yield Table(
        [words("class"), words("precision"), words("recall"), "F1", words("rows")],
        [[name, *(v[key] for key in ("precision", "recall", "f1")), round(v["support"])]
         for name, v in model["by_class"].items()],
    )  # fmt: skip
    yield Note(words("Of classes, square brackets hold Wilson's 95% intervals."))


def _scatter(table: pa.Table, stage: str, column: str) -> str:
    mine = tables.of_stage(table, stage)
    return figures.scatter(mine["truth"].to_numpy(), mine["prediction"].to_numpy(), column)


def _forecasts(table: pa.Table, target: Target) -> Iterator[Block]:
    """Some windows: what came in the first of the columns that are forecast, and what each model's first draw told."""
    stages = list(dict.fromkeys(table["stage"].to_pylist()))
    parts = {stage: tables.of_stage(table, stage).filter(pc.field("draw") == 0) for stage in stages}
    first = next(iter(parts.values()))
    for at in np.unique(np.linspace(0, len(first) - 1, _FORECASTS + 2).astype(int)[1:-1]).tolist():
        told = {stage: _column(part["scores"][at], target) for stage, part in parts.items()}
        title = words("from {record} on", record=first["record"][at].as_py())
        yield Figure(figures.forecast(_column(first["truth"][at], target), told, target.series[0], title))


def _column(cell: pa.Scalar, target: Target) -> np.ndarray:
    return np.array(cell.as_py(), np.float64).reshape(target.steps, -1)[:, 0]


def _worst(table: pa.Table, stage: str, target: Target) -> Records:
    """The rows of a table with the largest loss in a model's first draw."""
    mine = tables.of_stage(table, stage)
    mine = mine.filter(pc.equal(mine["draw"], 0)).sort_by([("loss", "descending")]).slice(0, _MOST_WORST)
    rows = [
        [row["record"], _said(target, row["truth"]), _said(target, row["prediction"]), row["loss"]]
        for row in mine.to_pylist()
    ]
    return Records([words("record"), words("is"), words("predicted"), words("loss")], rows)


def _said(target: Target, value: Any) -> Any:
    if target.task == "classification":
        return target.classes[value]
    if target.task == "multilabel":
        return ", ".join(c for c, v in zip(target.classes, value, strict=True) if v == 1) or "–"
    if target.task == "text":
        return value if len(value) <= _LONGEST else value[:_LONGEST] + " …"
    return value


def _wrong(table: pa.Table, stage: str, pictures: Shown, classes: list[str]) -> list[Block]:
    """The rows of a model's first draw that it got wrong, the surest first."""
    rows, truth, scores = tables.scores(table, stage)
    first = scores[0]
    predicted, sure = first.argmax(1), first.max(1)
    order = np.argsort(-sure, kind="stable")
    order = order[predicted[order] != truth[order]][:_MOST_EXAMPLES]
    if not len(order):
        return []
    shown = pictures(torch.from_numpy(rows[order]))
    records = tables.of_stage(table, stage)["record"]
    items = [
        (figures.data_uri(picture), f"{classes[predicted[i]]} {sure[i]:.0%}",
         words("is {truth} · {record}", truth=classes[truth[i]], record=records[int(i)].as_py()))
        for i, picture in zip(order, shown, strict=True)
    ]  # fmt: skip
    return [Pictures(items)]


def _written(items: list[dict[str, str]]) -> Iterator[Block]:
    yield Note(
        words(
            "The beginnings of held-out texts, and in bold how the model goes on, drawn at a temperature of 0.8."
        )
    )
    yield Written([(item["prompt"], item["text"]) for item in items])


# --- how it came about


def _curves(told: Told) -> Iterator[str | None]:
    def curve(key: str, label: str) -> str | None:
        return figures.curves(told.history, key, label)

    yield curve("loss", words("training loss"))
    yield curve("train_loss", words("loss on the training rows"))
    yield curve("validation_loss", words("loss on the validation rows"))
    yield curve("train_accuracy", words("accuracy on the training rows"))
    yield curve("validation_accuracy", words("accuracy on the validation rows"))
    yield curve("train_rmse", words("error on the training rows"))
    yield curve("validation_rmse", words("error on the validation rows"))
    numbers = told.target is not None and told.target.task == "regression"
    probe = words("R² of a linear probe") if numbers else words("accuracy of a linear probe")
    yield curve("linear_probe", probe)
    yield curve("effective_rank", words("effective rank of the features"))


def _data(data: dict[str, Any]) -> Iterator[Block]:
    yield splits(data, _MOST_CLASSES)
    told = [retold(data["stored"])] if data["stored"] else []
    told.append(words("{rows:,} records not used", rows=data["quarantined"]))
    told.append(words("{rows:,} exact duplicates", rows=data["duplicates"]["exact"]))
    line = "; ".join(told)
    yield Note(line[0].upper() + line[1:] + words("."))
    if conflicts := data["duplicates"].get("conflicting_labels"):
        yield Note(words("{sets:,} sets of equal records carry different labels.", sets=conflicts), loud=True)
    if data["quarantine"]:
        rows = [[q["record"], retold(q["reason"])] for q in data["quarantine"]]
        yield Records([words("not used"), words("reason")], rows)


def splits(data: dict[str, Any], most: int) -> Table:
    """The rows of each split, and of each class where there are not more than `most`."""
    classes = data["classes"] if len(data["classes"]) <= most else []
    rows = [
        [named(name), s["rows"], s["unlabelled"], *(s["classes"].get(c, 0) for c in classes)]
        for name, s in data["splits"].items()
    ]
    return Table([words("split"), words("rows"), words("without label"), *classes], rows)


def _cost(summary: dict[str, Any], environment: dict[str, Any]) -> Iterator[Block]:
    rows = []
    for stage in summary["stages"]:
        told, rate = stage["metrics"], stage.get("samples_per_second")
        keys = ("steps", "parameters", "trained_parameters", "memory_mib")
        seconds, rate = float(f"{stage['seconds']:.1f}"), round(rate) if rate else None
        rows.append([stage["name"], seconds, rate, *(told.get(key) for key in keys)])
    heads = [
        words("stage"), words("seconds"), words("rows a second"), words("steps"), words("parameters"),
        words("of these trained"), words("memory of a step, MiB"),
    ]  # fmt: skip
    yield Table(heads, rows)
    versions = environment.get("versions", {})
    about = [f"{name} {versions[name]}" for name in ("jichu", "torch") if name in versions]
    about += [f"Python {environment.get('python')}", str(environment.get("processor"))]
    about += [f"{environment.get('memory_gib')} GiB", *environment.get("gpus", [])]
    yield Note(", ".join(about) + words(". What ran is in recipe.yaml."))
