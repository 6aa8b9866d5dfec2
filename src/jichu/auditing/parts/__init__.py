"""The questions of an audit, by name, each in a file of its own."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from jichu.auditing.blocks import Section
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct, resolve
from jichu.core.words import words
from jichu.data.dataset import Dataset
from jichu.data.target import Target

from .base import Look, Part, Reader, Subject

__all__ = [
    "PARTS", "Look", "Part", "Reader", "Subject", "check", "make", "measured", "shown", "suiting", "worries",
]  # fmt: skip

PARTS = {
    "calibration": "jichu.auditing.parts.calibration:Calibration",
    "canaries": "jichu.auditing.parts.canaries:Planted",
    "corruptions": "jichu.auditing.parts.corruptions:Corruptions",
    "cost": "jichu.auditing.parts.cost:Cost",
    "doubtful": "jichu.auditing.parts.doubtful:Doubtful",
    "embeddings": "jichu.auditing.parts.embeddings:Embeddings",
    "explanation": "jichu.auditing.parts.explanation:Explanation",
    "fairness": "jichu.auditing.parts.fairness:Fairness",
    "learning-curve": "jichu.auditing.parts.learning_curve:LearningCurve",
    "membership": "jichu.auditing.parts.membership:Membership",
    "robustness": "jichu.auditing.parts.robustness:Robustness",
    "rules": "jichu.auditing.parts.rules:KeptRules",
    "slices": "jichu.auditing.parts.slices:Slices",
}


def _kind(name: str, where: str = "parts") -> type[Part]:
    kind: Any = resolve("part of an audit", name, PARTS, where=where)
    if not (isinstance(kind, type) and issubclass(kind, Part)):
        raise UsageError(
            f"{name} is no part of an audit", where=where, expected="a subclass of jichu.auditing.parts.Part"
        )
    return kind


def suiting(tasks: Collection[str]) -> set[str]:
    """The names of the parts that ask something of these tasks."""
    return {name for name in PARTS if not (of := _kind(name).tasks) or not set(of).isdisjoint(tasks)}


def make(specs: Sequence[Spec], where: str = "parts") -> dict[str, Part]:
    """The parts of some names, with what is said of each. Raises UsageError where a name comes twice."""
    made: dict[str, Part] = {}
    for spec in specs:
        _kind(spec.name, where)
        if spec.name in made:
            raise UsageError(f"{spec.name} is asked for twice", where=where, expected="each part once")
        made[spec.name] = construct("part of an audit", spec, PARTS, where=where)()
    return made


def check(parts: dict[str, Part], dataset: Dataset, targets: dict[str, Target]) -> None:
    """UsageError where one of the parts cannot be asked of these data, of which an audit has these targets."""
    for name, part in parts.items():
        mine = [target for target in targets.values() if not part.tasks or target.task in part.tasks]
        if targets and not mine:
            tasks = " and ".join(dict.fromkeys(target.task for target in targets.values()))
            raise UsageError(
                f"{name} asks nothing of {tasks}", where="parts", expected=f"it for {', '.join(part.tasks)}"
            )
        for target in mine:
            part.check(dataset, target)


def measured(parts: dict[str, Part], subject: Subject, first: bool = True) -> dict[str, Any]:
    """{name: what is found} of those parts that are for the subject's target; of `first` also those that are asked
    once. What one finds is kept as soon as it is found."""
    task = subject.target.task if subject.target else ""
    found = {}
    for name, part in parts.items():
        if (not part.tasks or task in part.tasks) and (part.each_target or first):
            kept = subject.kept.of(name, vars(part), subject.key, subject.rows.numpy().tobytes())
            mine = replace(subject, kept=kept)
            found[name] = mine.kept(functools.partial(part.measure, mine))
    return found


def shown(audit: dict[str, Any], targets: dict[str, Target], look: Look) -> list[Section]:
    """What the parts of an audit found, title and blocks, for one target after the other."""
    columns = {target.column: target for target in targets.values()}
    every = [audit, *audit.get("others", {}).values()]
    sections: list[Section] = []
    for found in every:
        for name, told in found.get("parts", {}).items():
            kind = _kind(name)
            title = words(kind.title)
            title = f"{title}: {found['column']}" if len(every) > 1 and kind.each_target else title
            if blocks := list(kind.show(told, columns.get(found["column"]), look)):
                sections.append((title, blocks))
    return sections


def worries(audit: dict[str, Any], stage: str, targets: dict[str, Target]) -> Iterator[str]:
    """What the parts of an audit found that is to be known of a stage's model."""
    columns = {target.column: target for target in targets.values()}
    for found in (audit, *audit.get("others", {}).values()):
        for name, told in found.get("parts", {}).items():
            yield from _kind(name).worries(told, stage, columns.get(found["column"]))
