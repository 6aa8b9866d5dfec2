"""One rule, understood: which answers it is about, and where it is true and false."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from jichu.core.errors import UsageError
from jichu.data import conditions
from jichu.data.conditions import Comparison, Formula, Joined, Truth, Word
from jichu.data.target import Target

from .columns import Array, Columns
from .config import Action, RuleConfig

_MOST = 10_000  # combinations of classes
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


class Bound(NamedTuple):
    """What the number in a target's column has to be, compared with an operand."""

    key: str
    column: str
    sign: str
    operand: Word


@dataclass(frozen=True)
class Rule:
    """`if condition then consequence`, or a consequence alone. `classes` and `numbers` are the targets, by key, that it
    speaks of, `inputs` the other columns."""

    name: str
    action: Action
    penalty: float
    condition: Formula | None
    consequence: Formula
    classes: tuple[str, ...]
    numbers: tuple[str, ...]
    inputs: frozenset[str]
    bounds: tuple[Bound, ...] = ()

    @property
    def enforced(self) -> bool:
        """Whether answers are changed for it."""
        return self.action == "enforce"

    def truth(self, columns: Columns) -> Truth:
        """Where it is kept and where it is broken, bool; neither where too little is known."""
        then = conditions.truth(self.consequence, columns, self.name)
        if self.condition is None:
            return then
        given = self.applies(columns)
        return Truth(given.no | then.yes, given.yes & then.no)

    def applies(self, columns: Columns) -> Truth:
        """Where its condition holds."""
        if self.condition is None:
            return Truth(np.array(True), np.array(False))
        return conditions.truth(self.condition, columns, self.name)


def understand(config: RuleConfig, columns: Columns, targets: Mapping[str, Target], where: str) -> Rule:
    """A rule of a recipe about these columns, those of targets among them. UsageError where it names what there is not,
    compares what cannot be compared, or cannot be enforced."""
    condition, consequence, word = conditions.parse(config.rule, where)
    if word and (config.action == "enforce" or config.penalty):
        raise UsageError(f"{word} is no answer of a model", where=where, expected="action: flag")
    action: Action | None = "flag" if word else config.action
    every = [part for part in (condition, consequence) if part is not None]
    for formula in every:
        conditions.truth(formula, columns, where)  # which says what is wrong
    spoken = {name for formula in every for name in conditions.named(formula, columns)}
    keys = {target.column: key for key, target in targets.items()}
    mine = [(key, targets[key]) for column, key in keys.items() if column in spoken]
    rule = Rule(
        config.title, action or ("enforce" if mine else "flag"), config.penalty, condition, consequence,
        tuple(key for key, target in mine if target.task == "classification"),
        tuple(key for key, target in mine if target.task == "regression"), frozenset(spoken - keys.keys()),
    )  # fmt: skip
    if not (rule.enforced or rule.penalty):
        return rule
    if not mine:
        told = ", ".join(t.column for t in targets.values())
        raise UsageError(
            "a rule about inputs alone changes no answer",
            where=where,
            expected=f"action: flag, without penalty, or a rule that speaks of {told}",
        )
    combinations(rule.classes, targets, where)
    if not rule.numbers:
        return rule
    return _bounded(rule, columns, {targets[key].column: key for key in rule.numbers}, where)


def _bounded(rule: Rule, columns: Columns, numbers: dict[str, str], where: str) -> Rule:
    """With the bounds that it sets on numbers, by column. UsageError where it is no such rule."""
    given: set[str] = set() if rule.condition is None else conditions.named(rule.condition, columns)
    bounds: list[Bound] = []
    for comparison in _conjuncts(rule.consequence):
        found = _bound(comparison, numbers, columns) if isinstance(comparison, Comparison) else None
        between = found is not None and found.operand.text in numbers and found.operand.text in columns
        if found is None or (between and rule.enforced) or numbers.keys() & given:
            ways = "" if rule.enforced else ", without penalty"
            raise UsageError(
                f"no bounds on {' and '.join(numbers)} follow from it", where=where,
                expected=f"{' or '.join(numbers)} compared by <, <=, =, >= or >, joined by and, if with a condition on other"
                f" columns; or action: flag{ways}",
            )  # fmt: skip
        bounds.append(found)
    return replace(rule, bounds=tuple(bounds))


def _conjuncts(formula: Formula) -> Iterator[Formula]:
    if isinstance(formula, Joined) and formula.every:
        for part in formula.parts:
            yield from _conjuncts(part)
    else:
        yield formula


def _bound(comparison: Comparison, numbers: dict[str, str], columns: Columns) -> Bound | None:
    """A comparison with a number's column to the left."""
    name, sign, (operand, *more) = comparison.column.text, comparison.sign, comparison.operands
    if more or sign not in _FLIPPED or operand == Word(conditions.MISSING):
        return None
    if name in numbers:
        return Bound(numbers[name], name, sign, operand)
    if operand.text in numbers and operand.text in columns:
        return Bound(numbers[operand.text], operand.text, _FLIPPED[sign], Word(name, "`"))
    return None


def combinations(keys: Sequence[str], targets: Mapping[str, Target], where: str) -> Array:
    """Codes [C, K] of every combination of the classes of some targets. UsageError where they are too many."""
    sizes = [len(targets[key].classes) for key in keys]
    count = int(np.prod(sizes, dtype=np.float64))
    if count > _MOST:
        named = " × ".join(f"{targets[k].column} ({n})" for k, n in zip(keys, sizes, strict=True))
        raise UsageError(f"{count:,} combinations of {named}", where=where, expected=f"{_MOST:,} at most")
    return np.array(list(itertools.product(*map(range, sizes))), np.int64).reshape(count, len(keys))
