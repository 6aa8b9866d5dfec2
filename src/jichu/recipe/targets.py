"""By what each target is learned, and how several are put together."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jichu.core.config import Spec, check
from jichu.core.errors import UsageError, shown, unknown
from jichu.core.names import construct, resolve
from jichu.data.target import Target
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import Objective

SEVERAL = "several"  # the objective of more than one target


def supervised(
    objective: Spec, targets: dict[str, Target], columns: Collection[str], where: str
) -> Objective:
    """What a stage learns by, one objective for each target. UsageError where it does not fit a target, or learns a
    column that is not among the tensors `columns`."""
    together, each = of_each(objective, where)
    inner: dict[str, Objective] = {}
    for key, spec in _by_key(objective, each, targets, where).items():
        of: dict[str, Any] = {} if "target" in spec.arguments else {"target": key}
        inner[key] = construct("objective", spec, OBJECTIVES, where=where, targets=targets, **of)()
        column = getattr(inner[key], "target", key)
        if column not in columns:
            raise UsageError(
                f"{spec.name} learns the column {column!r}, which these data do not have",
                where=where, expected=f"one of {', '.join(columns)}, as objective.target",
            )  # fmt: skip
    if len(inner) > 1:
        scales = _keyed(together.arguments.get("scales", {}), targets, f"{where}.scales")
        spec = together.model_copy(update={"scales": scales})
        return construct("objective", spec, OBJECTIVES, where=where, inner=inner)()
    if objective.name == SEVERAL:
        raise UsageError(
            f"{SEVERAL} is for more than one target, and there is {next(iter(targets.values())).column} alone",
            where=where, expected="data.target: a list of columns, or no such objective",
        )  # fmt: skip
    return next(iter(inner.values()))


def of_each(objective: Spec, where: str) -> tuple[Spec, dict[str, Spec]]:
    """What is said of all targets together, and of each column. Nothing, where another objective is named."""
    if objective.name != SEVERAL:
        return Spec(name=SEVERAL), {}
    arguments = objective.arguments
    each = arguments.pop("inner", {})
    if not isinstance(each, dict):
        told = shown(each)
        raise UsageError(f"found {told}", where=f"{where}.inner", expected="an objective for each column")
    named = {column: {"name": spec} if isinstance(spec, str) else spec for column, spec in each.items()}
    made = {column: check(Spec, spec, where=f"{where}.inner.{column}") for column, spec in named.items()}
    return Spec(name=SEVERAL, **arguments), made


def _by_key(
    objective: Spec, each: dict[str, Spec], targets: dict[str, Target], where: str
) -> dict[str, Spec]:
    """The objective of each target: its own, else the stage's where that learns it, else the one of its task."""
    own = _keyed(each, targets, f"{where}.inner")
    named = objective.name not in ("auto", SEVERAL)
    if named and not any(_learns(objective, target, where) for target in targets.values()):
        raise _unfit(objective, list(targets.values()), where)
    found: dict[str, Spec] = {}
    for key, target in targets.items():
        shared = objective if named and _learns(objective, target, where) else Spec(name=target.task)
        found[key] = own.get(key, shared)
        if not _learns(found[key], target, where):
            raise _unfit(found[key], [target], f"{where}.inner.{target.column}")
    return found


def _learns(spec: Spec, target: Target, where: str) -> bool:
    """Whether an objective is for targets of this task; a function of the user's may say nothing of it."""
    made = resolve("objective", spec.name, OBJECTIVES, where=where)
    return getattr(made, "task", None) in (None, target.task)


def _unfit(spec: Spec, targets: list[Target], where: str) -> UsageError:
    asked = list(dict.fromkeys(target.task for target in targets))
    return UsageError(
        f"{spec.name} does not learn {', '.join(t.column for t in targets)}, which asks for {' and '.join(asked)}",
        where=where, expected=" or ".join(asked),
    )  # fmt: skip


def _keyed(by_column: Any, targets: dict[str, Target], where: str) -> Any:
    """What is said of columns, by the keys of the targets; anything but a mapping as it is."""
    if not isinstance(by_column, dict):
        return by_column
    keys = {target.column: key for key, target in targets.items()}
    if other := next((column for column in by_column if column not in keys), None):
        raise unknown("target", other, keys, where=where)
    return {keys[column]: value for column, value in by_column.items()}
