"""Rows that are meant by words: `age >= 60 and (sex = Male or town in (Ulm, "Bad Homburg"))`.

    rule       := [if either then] either
    either     := both (or both)*            both := no (and no)*
    no         := not no | ( either ) | comparison
    comparison := column (= | == | != | < | <= | > | >=) operand | column [not] in ( operand, ... )

Words between signs are one name, spaces and hyphens included. An operand is a number, a time, a category, another column,
or `not known`; in quotes it is a category, in `backquotes` a column. What is not known is neither true nor false (Kleene's
logic, as in SQL), unless `not known` is asked for.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jichu.core.errors import UsageError, shown, unknown

from .groups import MISSING
from .source import Column

Array = np.ndarray
COMPARABLE = ("number", "timestamp", "category")
_DEEPEST = 50
_KEYWORDS = ("and", "or", "not", "in", "if", "then")
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)|(?P<sign>[=!<>]=|[=<>])|(?P<mark>[(),])"""
    r"""|(?P<word>[^\s'"`=!<>(),]+)|(?P<odd>\S))"""
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Word(NamedTuple):
    """A name or a value, and the quote it stands in."""

    text: str
    quote: str = ""


class Truth(NamedTuple):
    """Where something is true, and where it is false, bool [N]; it is neither where it is not known."""

    yes: Array
    no: Array


@dataclass(frozen=True)
class Comparison:
    """A column with one of some operands; `sign` is one of Python's."""

    column: Word
    sign: str
    operands: tuple[Word, ...]


@dataclass(frozen=True)
class Joined:
    """All of some formulas, or any."""

    parts: tuple[Formula, ...]
    every: bool


@dataclass(frozen=True)
class Not:
    """The contrary."""

    of: Formula


Formula = Comparison | Joined | Not


class Parsed(NamedTuple):
    """`if condition then consequence`, or a consequence alone; of `if condition then refer` it is not the condition, and
    `word` is refer."""

    condition: Formula | None
    consequence: Formula
    word: str = ""


def holds(text: str, columns: Mapping[str, Column], where: str) -> Array:
    """Whether each row [n] is meant; not where that is not known. UsageError where the words name no such column or
    category, or cannot be read."""
    return truth(_Reader(text, where).whole(), columns, where).yes


def parse(text: str, where: str) -> Parsed:
    """A rule. UsageError where it cannot be read, with the place."""
    return _Reader(text, where).rule()


def comparisons(formula: Formula) -> Iterator[Comparison]:
    """All of a formula, from left to right."""
    if isinstance(formula, Comparison):
        yield formula
    else:
        for part in (formula.of,) if isinstance(formula, Not) else formula.parts:
            yield from comparisons(part)


def named(formula: Formula, columns: Mapping[str, Any]) -> set[str]:
    """The columns that a formula speaks of, with what stands left of a sign whether there is such a column or not."""
    found = {c.column.text for c in comparisons(formula)}
    operands = [word for c in comparisons(formula) for word in c.operands]
    return found | {word.text for word in operands if _is_column(word, columns)}


class _Reader:
    """Goes through the words of a text once, from left to right."""

    def __init__(self, text: str, where: str):
        self.text, self.where, self.place, self.depth = text, where, 0, 0
        self.tokens = [(m.lastgroup or "", m[m.lastgroup or 0], m.start(m.lastgroup or 0)) for m in _TOKEN.finditer(text)]  # fmt: skip

    def whole(self) -> Formula:
        """All of the text as one formula."""
        return self._ended(self._either())

    def rule(self) -> Parsed:
        """All of the text as a rule."""
        if not self._took("if"):
            return Parsed(None, self.whole())
        condition = self._either()
        if not self._took("then"):
            self._refuse("then")
        if all(kind == "word" for kind, _, _ in self.tokens[self.place :]) and self._here()[0]:
            return Parsed(None, Not(condition), self._ended(self._operand("a word")).text)
        return Parsed(condition, self.whole())

    def _ended(self, found: Any) -> Any:
        if self._here()[0]:
            self._refuse("and, or, or its end")
        return found

    def _either(self) -> Formula:
        return self._joined("or", lambda: self._joined("and", self._no))

    def _joined(self, word: str, read: Callable[[], Formula]) -> Formula:
        parts = [read()]
        while self._took(word):
            parts.append(read())
        return Joined(tuple(parts), word == "and") if len(parts) > 1 else parts[0]

    def _no(self) -> Formula:
        negated = self._took("not")
        if not (negated or self._took("(")):
            return self._comparison()
        self.depth += 1
        if self.depth > _DEEPEST:
            self._refuse(f"conditions inside {_DEEPEST} others at most")
        inside = Not(self._no()) if negated else self._either()
        if not (negated or self._took(")")):
            self._refuse("and, or, or )")
        self.depth -= 1
        return inside

    def _comparison(self) -> Formula:
        column = self._operand("a column")
        negated = self._took("not")
        if self._took("in"):
            found = Comparison(column, "==", self._list())
            return Not(found) if negated else found
        kind, sign, _ = self._here()
        if kind != "sign" or negated:
            self._refuse("such as age >= 60, or town in (Ulm, Bonn)", "no condition: ")
        self.place += 1
        return Comparison(column, "==" if sign == "=" else sign, (self._operand("a value"),))

    def _list(self) -> tuple[Word, ...]:
        if not self._took("("):
            self._refuse("( and values, as in town in (Ulm, Bonn)")
        found = [self._operand("a value")]
        while self._took(","):
            found.append(self._operand("a value"))
        if not self._took(")"):
            self._refuse(", or )")
        return tuple(found)

    def _operand(self, expected: str) -> Word:
        kind, text, _ = self._here()
        if kind == "quoted":
            self.place += 1
            return Word(text[1:-1], text[0])
        if self._took("not") and self._took("known"):
            return Word(MISSING)
        words = []
        while self._here()[0] == "word" and self._here()[1] not in _KEYWORDS:
            words.append(self._here()[1])
            self.place += 1
        return Word(" ".join(words)) if words else self._refuse(expected)

    def _here(self) -> tuple[str, str, int]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("", "", len(self.text))

    def _took(self, token: str) -> bool:
        kind, text, _ = self._here()
        taken = kind in ("word", "mark") and text == token
        self.place += taken
        return taken

    def _refuse(self, expected: str, what: str = "") -> NoReturn:
        kind, text, place = self._here()
        found = shown(text) if kind else "the end"
        raise UsageError(
            f"{what}found {found} at character {place + 1} of {shown(self.text)}", where=self.where, expected=expected
        )  # fmt: skip


def truth(formula: Formula, columns: Mapping[str, Column], where: str) -> Truth:
    """Where a formula is true and false. Values may have any shapes that go together. UsageError where it names no such
    column or category, or compares what cannot be compared."""
    if isinstance(formula, Not):
        of = truth(formula.of, columns, where)
        return Truth(of.no, of.yes)
    if isinstance(formula, Joined):
        parts = [truth(part, columns, where) for part in formula.parts]
        return _all(parts) if formula.every else _any(parts)
    return _any([_compared(formula, operand, columns, where) for operand in formula.operands])


def _all(parts: Sequence[Truth]) -> Truth:
    return Truth(reduce(operator.and_, [p.yes for p in parts]), reduce(operator.or_, [p.no for p in parts]))


def _any(parts: Sequence[Truth]) -> Truth:
    return Truth(reduce(operator.or_, [p.yes for p in parts]), reduce(operator.and_, [p.no for p in parts]))


def _compared(formula: Comparison, operand: Word, columns: Mapping[str, Column], where: str) -> Truth:
    name, sign = formula.column.text, formula.sign
    if name not in columns:
        raise unknown("column", name, columns, where=where)
    column = columns[name]
    if column.kind not in COMPARABLE:
        raise UsageError(
            f"{name!r} holds {column.kind}", where=where, expected="a column of numbers, times or categories"
        )
    if sign not in ("==", "!=") and (column.kind == "category" or operand == Word(MISSING)):
        raise UsageError(
            f"the categories of {name!r} have no order" if column.kind == "category" else f"{name!r} {sign} {MISSING}",
            where=where, expected=f"{name} == or !=",
        )  # fmt: skip
    values, there = cells(column)
    if operand == Word(MISSING):
        return Truth(~there, there) if sign == "==" else Truth(there, ~there)
    other, other_there = side(column, name, operand, columns, where)
    found, known = _COMPARE[sign](values, other), there & other_there
    return Truth(found & known, ~found & known)


def side(
    column: Column, name: str, operand: Word, columns: Mapping[str, Column], where: str
) -> tuple[Array, Array]:
    """What a column is compared with, as `cells` has it: a value, or the cells of another column of its kind."""
    if not _is_column(operand, columns):
        return np.asarray(_value(column, name, operand, columns, where)), np.array(True)
    if operand.text not in columns:
        raise unknown("column", operand.text, columns, where=where)
    other = columns[operand.text]
    if other.kind != column.kind:
        raise UsageError(
            f"{name!r} holds {column.kind}, and {operand.text!r} {other.kind}",
            where=where, expected="columns of one kind",
        )  # fmt: skip
    values, there = cells(other)
    if column.kind == "category":  # the other's codes as this column has them
        place = {text: code for code, text in enumerate(column.classes)}
        to = np.array([place.get(text, -2 - code) for code, text in enumerate(other.classes)] + [-1])
        values = to[values]
    return values, there


def cells(column: Column) -> tuple[Array, Array]:
    """Values as they are compared, and which of them are known. Numbers are as exact as they are stored: 0.1 is 0.1."""
    if column.kind == "category":
        return column.values, column.values >= 0
    if column.kind == "timestamp":
        return column.values, ~np.isnat(column.values)
    with np.errstate(over="ignore"):
        values = np.asarray(column.values).astype(np.float32)
    return values, ~np.isnan(values)


def _is_column(operand: Word, columns: Mapping[str, Any]) -> bool:
    return operand.quote == "`" or (not operand.quote and operand.text in columns and operand.text != MISSING)


def _value(column: Column, name: str, operand: Word, columns: Mapping[str, Column], where: str) -> Any:
    text = operand.text
    if column.kind == "category":
        if text not in column.classes:
            raise unknown(f"category of {name}", text, [*column.classes, MISSING], where=where)
        return column.classes.index(text)
    try:
        if column.kind == "timestamp":
            found: Any = np.datetime64(text)
            if not np.isnat(found):
                return found
        elif np.isfinite(found := np.float32(text)):
            return found
    except ValueError:
        pass
    kind = "a time such as 2030-12-31" if column.kind == "timestamp" else "a number"
    near = unknown("column", text, [n for n, c in columns.items() if c.kind == column.kind]).nearest
    raise UsageError(
        f"{name!r} is compared with {shown(text)}", where=where, expected=f"{kind}, or a column", nearest=near
    )
