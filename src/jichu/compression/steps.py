"""Steps by name, in an order that makes sense; begun, taken along in a training, and ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from jichu.adapt.rules import Rules
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct
from jichu.objectives.base import Objective

from . import STEPS
from .base import Retrained, Step, Subject, fold


def make(specs: Sequence[Spec], where: str, trains: bool) -> list[Step]:
    """The steps of these names and arguments. UsageError for what is not known, in no order that makes sense, or comes to
    nothing because the model is not trained again."""
    found: list[Step] = []
    for i, spec in enumerate(specs):
        step = cast(Step, construct("step", spec, STEPS, where=f"{where}.{i}", of=Step)())
        before = found[-1] if found else None
        if step.trains and not trains:
            raise UsageError(
                f"{step.name} comes to nothing without training", where=f"{where}.{i}",
                expected="a budget, such as 2 epochs",
            )  # fmt: skip
        if step.replaces and before is not None:
            raise UsageError(
                f"{step.name} with a student undoes {before.name}", where=f"{where}.{i}",
                expected="it as the first of the steps",
            )  # fmt: skip
        if step.structural and (holder := next((other for other in found if other.holds), None)):
            raise UsageError(
                f"{step.name} changes layers whose weights {holder.name} holds already", where=f"{where}.{i}",
                expected=f"{step.name} before {holder.name}",
            )  # fmt: skip
        if any(step.name == other.name and not step.structural for other in found):
            raise UsageError(f"{step.name} stands there twice", where=f"{where}.{i}", expected="it once")
        found.append(step)
    return found


def begin(steps: Sequence[Step], subject: Subject) -> None:
    """Change the subject by each step. UsageError where layers are to be changed that already round their inputs."""
    if (structural := next((step for step in steps if step.structural), None)) and subject.config.ranges:
        raise UsageError(
            f"{structural.name} changes layers whose inputs are rounded already", where="steps",
            expected=f"{structural.name} first, and quantization-aware after it",
        )  # fmt: skip
    for step in steps:
        step.meet(subject)
    for step in steps:
        step.begin(subject)


def beside(objective: Objective, steps: list[Step]) -> tuple[Objective, Rules]:
    """What the changed model is trained by, and at which rates its parameters learn."""
    for step in steps:
        objective = step.around(objective)
    rates: Rules = [rule for step in steps for rule in step.rates()]
    return Retrained(objective, steps), [*rates, (".*", 1.0)]


def end(steps: Sequence[Step], model: nn.Module, trained: bool) -> None:
    """Nothing but plain layers is left."""
    for step in steps:
        step.end(trained)
    fold(model)


def remarks(steps: Sequence[Step]) -> list[str]:
    """What the steps do not make better, of each kind once."""
    said: dict[str, list[Any]] = {}
    for step in steps:
        if step.remark:
            said.setdefault(step.remark, []).append(step.name)
    return [f"{' and '.join(names)}: {remark}" for remark, names in said.items()]
