"""Runs that are meant by words, `accuracy > 0.9 and state = finished`, as rules have them (`jichu.data.conditions`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from jichu.core.errors import UsageError, unknown
from jichu.data.conditions import Comparison, Formula, Joined, Not, Word, comparisons, parse, truth
from jichu.data.groups import MISSING
from jichu.data.source import Column

from .facts import STATES, Facts

_WHERE = "where"


def holds(text: str, runs: Sequence[Facts]) -> list[bool]:
    """Whether each run is meant. Columns are name, state, stage, step, started, seconds, and every figure of a headline or a
    last row; `tag = best` asks whether a run has that tag. UsageError where there is no such column, state, stage, name or
    tag, or the words cannot be read."""
    rule = parse(text, _WHERE)
    if rule.condition is not None:
        raise UsageError(
            "a rule, not a condition",
            where=_WHERE,
            expected="what stands behind `if`, such as accuracy > 0.9",
        )
    if not runs:
        return []
    columns = _columns(runs)
    known = [*columns, "tag"]
    if wrong := next(
        (c.column.text for c in comparisons(rule.consequence) if c.column.text not in known), None
    ):
        raise unknown("key", wrong, known, where=_WHERE)
    tags = sorted({MISSING, *(tag for run in runs for tag in run.tags)})
    for tag in tags:
        columns[_has(tag)] = _category(str(tag in (run.tags or (MISSING,))) for run in runs)
    found = truth(_by_tag(rule.consequence, tags), columns, _WHERE).yes
    return np.broadcast_to(found, len(runs)).tolist()


def _columns(runs: Sequence[Facts]) -> dict[str, Column]:
    """What can be asked of runs, a run's own keys over figures that are called like them."""
    figures = sorted({name for run in runs for name in (*run.headline, *run.latest)})
    return {name: _number(run.value(name) for run in runs) for name in figures} | {
        "name": _category(run.name for run in runs),
        "state": _category((run.state for run in runs), STATES),
        "stage": _category(run.stage for run in runs),
        "step": _number(run.step for run in runs),
        "started": _time(run.started for run in runs),
        "seconds": _number(run.lasted for run in runs),
    }


def _number(values: Iterable[float | None]) -> Column:
    return Column("number", np.array([np.nan if v is None else v for v in values], np.float64))


def _time(values: Iterable[float | None]) -> Column:
    """Of the clock on the wall, as the list shows them."""
    told = ["NaT" if v is None else datetime.fromtimestamp(v).isoformat(timespec="seconds") for v in values]
    return Column("timestamp", np.array(told, "datetime64[s]"))


def _category(values: Iterable[str], classes: Sequence[str] = ()) -> Column:
    told = list(values)
    names = tuple(classes) or tuple(sorted({*told} - {""}))
    codes = {name: code for code, name in enumerate(names)}
    return Column("category", np.array([codes.get(v, -1) for v in told], np.int64), names)


def _has(tag: str) -> str:
    return f"tag = {tag}"  # a column that no words name


def _by_tag(formula: Formula, tags: Sequence[str]) -> Formula:
    """With a column for each tag, as a run may have many."""
    if isinstance(formula, Not):
        return Not(_by_tag(formula.of, tags))
    if isinstance(formula, Joined):
        return Joined(tuple(_by_tag(part, tags) for part in formula.parts), formula.every)
    if formula.column.text != "tag":
        return formula
    if formula.sign not in ("==", "!="):
        raise UsageError("tags have no order", where=_WHERE, expected="tag = or tag !=")
    if wrong := next((o.text for o in formula.operands if o.text not in tags), None):
        raise unknown("tag", wrong, tags, where=_WHERE)
    one = [Comparison(Word(_has(o.text)), "==", (Word("True", '"'),)) for o in formula.operands]
    has = Joined(tuple(one), every=False)
    return has if formula.sign == "==" else Not(has)
