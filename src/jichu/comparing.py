"""Runs compared on the held-out rows that they share: differences with paired intervals, and paired tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jichu.auditing import measure
from jichu.auditing import table as tables
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json
from jichu.data.target import Target
from jichu.metrics.paired import Test, holm, mcnemar, wilcoxon
from jichu.recipe.build import TOKENS
from jichu.recipe.results import TEXTS
from jichu.recipe.stages import metric_functions
from jichu.runs import Run


@dataclass(frozen=True)
class _Side:
    """What a run's model said of one target."""

    name: str
    target: Target
    metrics: dict[str, dict[str, float]]  # as its audit has them
    table: pa.Table  # draw after draw, row after row
    stage: str

    @property
    def scored(self) -> measure.Scored:
        return measure.scored(self.table, self.stage, self.target)

    @property
    def losses(self) -> np.ndarray:
        return self.table.filter(pc.field("draw") == self.table["draw"][0])["loss"].to_numpy()


def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> dict[str, Any]:
    """How much better the first run's model is than those of the others, on the held-out rows of its audit.

    Gives {"runs": names, "comparisons": [{"one", "two", "column", "rows", "metrics": {name: {"one", "two",
    "better_by": interval}}, "test": {"name", "p", "p_holm", "first", "second"}}]}, a comparison for each other run and
    target that they share. `better_by` is positive where the first is better, of losses too; its interval is a paired
    bootstrap's. Tests are of the first draw: McNemar's of classes, else Wilcoxon's signed ranks of the absolute errors of
    numbers, or of the rows' losses; of forecasts, whose windows overlap, None. `p_holm` is `p` after Holm's correction for
    all of them. Raises UsageError or DataError where the runs do not share data, rows or target."""
    opened = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    if len(opened) < 2:
        raise UsageError(f"{len(opened)} runs to compare", expected="two or more")
    names = [run.path.name for run in opened]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in opened]
    (first, mine), *others = [(run, _sides(run, name)) for run, name in zip(opened, names, strict=True)]
    found = []
    for other, theirs in others:
        _same_data(first, other)
        shared = [column for column in mine if column in theirs]
        if not shared:
            told = f"{first.path} predicts {', '.join(mine)}, {other.path} {', '.join(theirs)}"
            raise UsageError(told, expected="runs with the same target")
        found += [_compared(first, mine[column], theirs[column]) for column in shared]
    tests = [c["test"] for c in found if c["test"]]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
    return {"runs": names, "comparisons": found}


def _sides(run: Run, name: str) -> dict[str, _Side]:
    """What a run says of each of its targets, by their columns."""
    if not run.folder.audit.exists():
        raise UsageError(f"{run.path} was not measured", expected="a run with an audit stage")
    audit = read_json(run.folder.audit, ("models", "primary"))
    targets = run.targets or {TOKENS: TEXTS}
    found: dict[str, _Side] = {}
    for key, target in targets.items():
        told = audit["others"][target.column] if found else audit
        if not told["models"]:
            raise DataError(
                "damaged: no model was measured", where=run.folder.audit, expected="an audit as it was written"
            )  # fmt: skip
        stage = measure.chosen(told, run.recipe.chosen)
        kept = tables.read(run.folder.predictions_of(key) if found else run.folder.predictions)
        table = tables.of_stage(kept, stage).sort_by([("draw", "ascending"), ("row", "ascending")])
        found[target.column] = _Side(name, target, told["models"][stage]["metrics"], table, stage)
    return found


def _same_data(one: Run, two: Run) -> None:
    marks = [run.folder.notes().get("data", {}).get("fingerprint") for run in (one, two)]
    if marks[0] != marks[1]:
        raise DataError(
            f"{one.path} and {two.path} were measured on different data", where=two.folder.environment,
            expected=f"the fingerprint {marks[0]}, found {marks[1]}",
        )  # fmt: skip


def _compared(run: Run, one: _Side, two: _Side) -> dict[str, Any]:
    target = one.target
    if (target.task, target.classes) != (two.target.task, two.target.classes):
        raise UsageError(
            f"{one.name} and {two.name} mean something else by {target.column}",
            expected=f"the same task and classes; {target.task} and {two.target.task}",
        )
    records = [set(side.table["record"].to_pylist()) for side in (one, two)]
    mine, theirs = one.scored, two.scored
    if records[0] != records[1] or not np.array_equal(mine[0], theirs[0]):
        raise UsageError(
            f"{one.name} was measured on {len(records[0]):,} rows, {two.name} on {len(records[1]):,}, and they share"
            f" {len(records[0] & records[1]):,}", expected="the same held-out rows: the same data.split and seed",
        )  # fmt: skip
    metrics = {}
    for name, function in _functions(run, target).items():
        if name in one.metrics and name in two.metrics:
            better = measure.better_by(mine, theirs, function, target, (one.name, two.name), run.recipe.seed)
            sides = {"one": one.metrics[name], "two": two.metrics[name]}
            metrics[name] = sides | {"better_by": better._asdict()}
    test = _test(one, two)
    return {
        "one": one.name, "two": two.name, "column": target.column, "rows": len(mine[0]), "metrics": metrics,
        "test": test and test._asdict(),
    }  # fmt: skip


def _functions(run: Run, target: Target) -> dict[str, Any]:
    """The metrics of a run's audit; quantiles are not among what is compared."""
    stage = run.recipe.audit
    assert stage is not None  # of which there is a file
    return {n: f for n, f in metric_functions(stage, {}, target, several=True).items() if "pinball" not in n}


def _test(one: _Side, two: _Side) -> Test | None:
    target = one.target
    if target.task == "forecast":
        return None
    if target.task == "regression":
        return wilcoxon(np.sqrt(one.losses), np.sqrt(two.losses))
    if target.task != "classification":
        return wilcoxon(one.losses, two.losses)
    (_, truth, scores), (_, _, others) = one.scored, two.scored
    return mcnemar(scores[0].argmax(1) == truth, others[0].argmax(1) == truth)
