"""All rules beside a model: which of them answers break, and the answers that keep them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jichu.core.errors import DataError, UsageError
from jichu.data.schema import Kept
from jichu.data.source import UNLABELLED, Column
from jichu.data.target import Target

from .classes import Group, together
from .columns import Answers, Array, Columns, cut, hollow, recoded, said
from .config import Action, RuleConfig
from .numbers import limits, nearest
from .rule import Rule, understand

if TYPE_CHECKING:
    from jichu.data.dataset import Dataset  # which needs torch


@dataclass(frozen=True)
class Stated:
    """A rule as it is kept with a model."""

    rule: str
    name: str | None = None
    action: Action | None = None
    penalty: float = 0.0


class Decision(NamedTuple):
    """The answers that keep the rules; which rows [N] break each rule: of one that is enforced the model's own answer, of
    one that is flagged what is said in the end; and of each target the rows that were changed."""

    answers: dict[str, Array]
    fired: dict[str, Array]
    changed: dict[str, Array]


@dataclass(frozen=True)
class Rulebook:
    """Rules, and the columns that they speak of beside targets, as `config.json` keeps them."""

    rules: tuple[Stated, ...]
    columns: tuple[Kept, ...]

    def of(self, targets: Mapping[str, Target]) -> Rules:
        """Ready for use with what a model predicts."""
        known = {kept.name: hollow(kept) for kept in self.columns}
        return Rules([RuleConfig(**vars(rule)) for rule in self.rules], known, targets)


class Rules:
    """Rules about some targets, by key, and other columns, of whose categories those in `columns` are known. UsageError
    where one cannot be understood."""

    def __init__(
        self, stated: Sequence[RuleConfig], columns: Columns, targets: Mapping[str, Target], where: str = "rules"
    ):  # fmt: skip
        self.stated = tuple(stated)
        self.targets = {k: t for k, t in targets.items() if t.task in ("classification", "regression")}
        empty = {key: np.empty((0, t.outputs)) for key, t in self.targets.items()}
        columns = {name: hollow(column) for name, column in columns.items()}
        known = {**columns, **said(self.targets, empty)}
        self.rules = [
            understand(rule, known, self.targets, f"{where}.{i}") for i, rule in enumerate(self.stated)
        ]
        names = {name for rule in self.rules for name in rule.inputs}
        self.columns = {name: column for name, column in columns.items() if name in names}

    @classmethod
    def of_data(cls, stated: Sequence[RuleConfig], dataset: Dataset) -> Rules:
        """Rules about the columns of a data set."""
        columns = {name: hollow(dataset.column(name)) for name in dataset.column_names} if stated else {}
        return cls(stated, columns, dataset.targets)

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def book(self) -> Rulebook:
        """To be kept with a model."""
        stated = (Stated(**rule.model_dump()) for rule in self.stated)
        return Rulebook(tuple(stated), tuple(Kept(n, c.kind, c.classes) for n, c in self.columns.items()))

    def inputs(self, columns: Columns, rows: Array | None = None) -> dict[str, Column]:
        """The columns that the rules speak of, of all rows or of some, categories that were not known before after the
        others. DataError where one is missing."""
        found = {}
        for name, known in self.columns.items():
            if name not in columns:
                spoken = next(rule.name for rule in self.rules if name in rule.inputs)
                raise DataError(
                    f"the column {name!r} is missing, which the rule {spoken!r} asks for",
                    expected="a table that has it",
                )
            found[name] = recoded(columns[name], known.classes)
        return found if rows is None else cut(found, rows)

    def of_rows(self, dataset: Dataset, rows: Any = None) -> dict[str, Column]:
        """`inputs` of all rows of a data set, or of some."""
        there = {name: dataset.column(name) for name in self.columns if name in dataset.column_names}
        return self.inputs(there, None if rows is None else np.asarray(rows))

    def truth(self, dataset: Dataset, rows: Any) -> dict[str, Column]:
        """What is to be answered of some rows, the classes in the order of the targets'."""
        there = {t.column: recoded(dataset.column(t.column), t.classes) for t in self.targets.values()}
        return cut(there, np.asarray(rows))

    def broken(self, dataset: Dataset, rows: Any = None) -> dict[str, Array]:
        """Which rows of a data set, all or some, break each rule by what stands in them, the truth included."""
        place = np.arange(len(dataset)) if rows is None else np.asarray(rows)
        columns = self.of_rows(dataset, place) | self.truth(dataset, place)
        return {r.name: np.broadcast_to(r.truth(columns).no, len(place)) for r in self.rules}

    def fired(self, answers: Answers, inputs: Columns, rules: Iterable[Rule] | None = None) -> dict[str, Array]:  # fmt: skip
        """Which rows [N] break each rule."""
        count = len(next(iter(answers.values())))
        columns = {**inputs, **said(self.targets, answers)}
        return {
            rule.name: np.broadcast_to(rule.truth(columns).no, count)
            for rule in (self.rules if rules is None else rules)
        }

    def decide(self, answers: Answers, inputs: Columns) -> Decision:
        """Classes become the likeliest combination that keeps all enforced rules, their probabilities the likeliest such
        combination's that holds each; numbers become the nearest within their bounds. Rows on which rules contradict each
        other stay as they are."""
        decided = {key: np.asarray(found, np.float64) for key, found in answers.items()}
        for group in self._groups:
            decided |= group.decide(decided, inputs)
        enforced = [rule for rule in self.rules if rule.enforced]
        for key, (low, high) in limits(enforced, {**inputs, **said(self.targets, decided)}).items():
            decided[key] = nearest(decided[key], low, high)
        fired = self.fired(answers, inputs, enforced)
        fired |= self.fired(decided, inputs, [rule for rule in self.rules if not rule.enforced])
        before, after = said(self.targets, answers), said(self.targets, decided)
        changed = {
            key: _differ(before[t.column].values, after[t.column].values)
            for key, t in self.targets.items() if key in answers
        }  # fmt: skip
        return Decision(decided, {rule.name: fired[rule.name] for rule in self.rules}, changed)

    def told(self, decision: Decision, alone: Answers) -> list[dict[str, Any]]:
        """Of each row the rules that have `fired`, and what the model `alone` said by column, where that was changed."""
        before = said(self.targets, alone)
        changed = {self.targets[key].column: rows for key, rows in decision.changed.items()}
        return [
            {
                "fired": [name for name, rows in decision.fired.items() if rows[i]],
                "alone": {c: _plain(before[c], i) for c, rows in changed.items() if rows[i]},
            }
            for i in range(len(next(iter(alone.values()))))
        ]

    @cached_property
    def _groups(self) -> list[Group]:
        return together([rule for rule in self.rules if rule.enforced and not rule.numbers], self.targets)

    def refuse_contradictions(self, inputs: Columns, named: Callable[[int], str]) -> None:
        """UsageError where no answer keeps all rules on one of these rows; `named` says what a row is called."""
        for group in self._groups:
            _refuse([rule.name for rule in group.rules], group.impossible(inputs), named)
        unsaid = {
            t.column: Column("category", np.array(UNLABELLED), t.classes) if t.classes
            else Column("number", np.array(np.nan))
            for t in self.targets.values()
        }  # fmt: skip
        enforced = [rule for rule in self.rules if rule.enforced]
        for key, (low, high) in limits(enforced, {**inputs, **unsaid}).items():
            names = [rule.name for rule in enforced if any(bound.key == key for bound in rule.bounds)]
            _refuse(names, np.atleast_1d(low > high), named)


def _plain(column: Column, row: int) -> Any:
    value = column.values[row]
    return column.classes[value] if column.kind == "category" else float(value)


def _differ(one: Array, two: Array) -> Array:
    return (one != two) & (two == two)  # what is no number is the same


def _refuse(names: Collection[str], impossible: Array, named: Callable[[int], str]) -> None:
    if count := int(impossible.sum()):
        raise UsageError(
            f"no answer keeps the rules {'; '.join(names)}" + (f" on {count} rows" if len(impossible) > 1 else ""),
            where=f"rules, row {named(int(impossible.argmax()))}",
            expected="rules that do not contradict each other, or action: flag",
        )  # fmt: skip
