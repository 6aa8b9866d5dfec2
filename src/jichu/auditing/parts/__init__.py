"""The questions of an audit, by name, each in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jichu.auditing.blocks import Section
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct, resolve
from jichu.core.words import words
from jichu.data.dataset import Dataset
from jichu.data.target import Target

from .base import Look, Part, Subject

__all__ = ["PARTS", "Look", "Part", "Subject", "check", "make", "measured", "shown", "worries"]

PARTS = {
    "calibration": "jichu.auditing.parts.calibration:Calibration",
    "corruptions": "jichu.auditing.parts.corruptions:Corruptions",
    "cost": "jichu.auditing.parts.cost:Cost",
    "doubtful": "jichu.auditing.parts.doubtful:Doubtful",
    "embeddings": "jichu.auditing.parts.embeddings:Embeddings",
    "explanation": "jichu.auditing.parts.explanation:Explanation",
    "fairness": "jichu.auditing.parts.fairness:Fairness",
    "membership": "jichu.auditing.parts.membership:Membership",
    "robustness": "jichu.auditing.parts.robustness:Robustness",
    "slices": "jichu.auditing.parts.slices:Slices",
}


def _kind(name: str, where: str = "parts") -> type[Part]:
    kind: Any = resolve("part of an audit", name, PARTS, where=where)
    if not (isinstance(kind, type) and issubclass(kind, Part)):
        raise UsageError(
            f"{name} is no part of an audit", where=where, expected="a subclass of jichu.auditing.parts.Part"
        )
    return kind


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
    """UsageError where one of the parts cannot be asked of these data."""
    for part in parts.values():
        for target in targets.values():
            if not part.tasks or target.task in part.tasks:
                part.check(dataset, target)


def measured(parts: dict[str, Part], subject: Subject, first: bool = True) -> dict[str, Any]:
    """{name: what is found} of those parts that are for the subject's target; of `first` also those that are asked
    once."""
    task = subject.target.task if subject.target else ""
    return {
        name: part.measure(subject)
        for name, part in parts.items()
        if (not part.tasks or task in part.tasks) and (part.each_target or first)
    }


def shown(audit: dict[str, Any], targets: dict[str, Target], look: Look) -> list[Section]:
    """What the parts of an audit found, title and blocks, for one target after the other."""
    columns = {target.column: target for target in targets.values()}
    every = [audit, *audit.get("others", {}).values()]
    sections = []
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
