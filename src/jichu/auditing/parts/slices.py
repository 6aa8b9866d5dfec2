"""Where a model is worse than elsewhere: slices of the rows that are named, and those that are found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Note, Table, interval
from jichu.core.errors import unknown
from jichu.core.progress import task
from jichu.core.words import named, retold, words
from jichu.data.conditions import holds
from jichu.data.dataset import Dataset
from jichu.data.groups import folded, groups
from jichu.data.source import Column
from jichu.data.target import Target
from jichu.data.traits import traits
from jichu.metrics.intervals import mean_interval
from jichu.metrics.slices import against_rest, by_chance, worst

from .base import Look, Part, Subject

_MOST = 500  # values of columns, those of most rows, that slices are made of
_SHOWN = 40  # groups of a column that is named
_ROWS = 50_000  # that slices are looked for in, evenly spread
Array = np.ndarray
Value = tuple[str, str]  # a column, and the value or the stretch of numbers
Slice = str | tuple[Value, ...]  # a condition as it was written, or values that all hold


class Slices(Part):
    """How often a model is wrong (of numbers, how far off) on the rows of some conditions (`where: ["age >= 60 and sex ==
    Male"]`), on the groups of some columns (`by`), and on the `find` slices that are worst: a value, or a stretch of
    numbers, of a column, or of two columns together, with `least` held-out rows or more. These are found on one half of
    the held-out rows and measured on the other. Columns are inputs of the table, those kept aside, and brightness and
    contrast of pictures, loudness of sounds, length of texts."""

    title = "Where is it worst?"
    tasks = ("classification", "regression")

    def __init__(
        self,
        where: list[str] = [],  # noqa: B006 (read only)
        by: list[str] = [],  # noqa: B006 (read only)
        find: Annotated[int, Field(ge=0, le=100)] = 8,
        least: Annotated[int, Field(ge=4)] = 50,
        bins: Annotated[int, Field(ge=2, le=20)] = 4,
    ):
        self.where, self.by, self.find, self.least, self.bins = where, by, find, least, bins

    def check(self, dataset: Dataset, target: Target | None) -> None:
        columns = _columns(dataset, np.empty(0, np.int64))
        for text in self.where:
            holds(text, columns, "parts.slices.where")
        for name in self.by:
            if name not in columns:
                raise unknown("column", name, columns, where="parts.slices.by")

    def measure(self, subject: Subject) -> dict[str, Any]:
        rows = tables.scores(subject.table, subject.fitted[0])[0]
        columns = _columns(subject.dataset, rows)
        given: dict[Slice, Array] = {t: holds(t, columns, "parts.slices.where") for t in self.where}
        for name in self.by:
            of = folded(groups(columns[name], self.bins), np.arange(len(rows)), _SHOWN)
            given |= {((name, value),): of.codes == code for code, value in enumerate(of.names)}
        predicted = {target.column for target in subject.dataset.targets.values()}
        inputs = {name: column for name, column in columns.items() if name not in predicted}
        order = np.random.default_rng(subject.seed).permutation(len(rows))[:_ROWS]
        one, two = np.array_split(order, 2)
        candidates = self._candidates(inputs, one)
        found: dict[str, Any] = {"least": self.least, "rows": len(rows), "columns": len(inputs), "models": {}}
        with task("slices", len(subject.fitted)) as shown:
            for stage in subject.fitted:
                errors = _errors(stage, subject)
                worse = self._worst(errors.mean(0)[one], candidates, one)
                found["models"][stage] = {
                    "overall": mean_interval(errors, seed=subject.seed)._asdict(),
                    "given": _told(errors, given, subject.seed),
                    "found": _told(errors[:, two], {n: mine[two] for n, mine in worse.items()}, subject.seed),
                }
                shown.advance(1)
        return found

    def _candidates(self, columns: dict[str, Column], among: Array) -> dict[Value, Array]:
        """Which rows [N] have each value of each column, of the values that most of some rows have."""
        every = {name: groups(column, self.bins) for name, column in columns.items()}
        counts = {
            (name, code): count
            for name, of in every.items()
            for code, count in enumerate(np.bincount(of.codes[among], minlength=len(of.names)).tolist())
            if 2 * count >= self.least
        }
        kept = sorted(counts, key=lambda key: -counts[key])[:_MOST]
        return {(n, every[n].names[code]): every[n].codes == code for n, code in kept}

    def _worst(self, errors: Array, candidates: dict[Value, Array], among: Array) -> dict[Slice, Array]:
        """The slices [N] that are worst on some rows."""
        if not candidates or not self.find:
            return {}
        names = list(candidates)
        members = np.stack([mine[among] for mine in candidates.values()], 1)
        places = worst(errors, members, self.find, max(1, self.least // 2))
        return {
            tuple(names[i] for i in place): np.logical_and.reduce([candidates[names[i]] for i in place])
            for place in places
        }

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        heads = [
            words("model"),
            words("rows"),
            _error(target),
            words("above the rest by"),
            words("by chance (q)"),
        ]
        models = found["models"]
        given = [_cells(s, stage) for stage, m in models.items() for s in m["given"]]
        if given:
            yield Table([words("slice"), *heads], given)
        searched = [_cells(s, stage) for stage, m in models.items() for s in m["found"]]
        if searched:
            yield Table([words("slice that was found"), *heads], searched)
        yield Note(_how(found, bool(searched)))

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        model = found["models"].get(stage, {"given": [], "found": []})
        worse = [s for s in (*model["given"], *model["found"]) if (s["above"]["low"] or 0) > 0]
        if worse:
            most = max(worse, key=lambda s: s["above"]["value"])
            yield words(
                "{stage} is worst where {slice}: {error} {inside} on {rows:,} rows, {above} above the rest.",
                stage=stage, slice=_name(most), error=_error(target), rows=most["rows"],
                inside=" ".join(interval(most["error"])), above=" ".join(interval(most["above"])),
            )  # fmt: skip


def _error(target: Target | None) -> str:
    numbers = target is not None and target.task == "regression"
    return named("mean_absolute_error") if numbers else words("share wrong")


def _how(found: dict[str, Any], searched: bool) -> str:
    about = {key: found[key] for key in ("least", "rows", "columns")}
    if not found["columns"]:
        return words("There are no columns to look for slices in.")
    if not searched:
        return words(
            "No slice of at least {least} of the {rows:,} held-out rows was found that is worse than the rest.",
            **about,
        )
    return words(
        "Slices of at least {least} of the {rows:,} held-out rows are looked for in {columns} columns, and in two at once, on"
        " one half of these rows; what is told of them was measured on the other half, so that the search does not flatter"
        " itself. q is how many of the slices up to there are expected to be so by chance (Fisher's or Welch's test, corrected"
        " after Benjamini and Hochberg).", **about,
    )  # fmt: skip


def _columns(dataset: Dataset, rows: Array) -> dict[str, Column]:
    """What is known of some rows, by name."""
    at = torch.tensor(rows)
    found = {name: dataset.column(name) for name in dataset.column_names}
    return traits(dataset, at) | {n: replace(c, values=c.values[rows]) for n, c in found.items()}


def _errors(stage: str, subject: Subject) -> Array:
    """How wrong each row is in each draw [D, N]."""
    _, truth, every = tables.scores(subject.table, stage)
    if subject.predicted.task == "regression":
        return np.abs(tables.predictions(subject.table, stage) - truth)
    return (every.argmax(2) != truth).astype(np.float64)


def _told(errors: Array, slices: dict[Slice, Array], seed: int) -> list[dict[str, Any]]:
    if not slices:
        return []
    members = np.stack(list(slices.values()), 1)
    measured = against_rest(errors, members, seed=seed)
    chance = by_chance(errors.mean(0), members)
    return [
        {
            "slice": name if isinstance(name, str) else " and ".join(f"{n} = {v}" for n, v in name),
            "values": [] if isinstance(name, str) else [list(value) for value in name],
            "rows": int(mine.sum()),
            "error": inside._asdict(),
            "above": above._asdict(),
            "q": float(q),
        }
        for (name, mine), (inside, above), q in zip(slices.items(), measured, chance, strict=True)
    ]


def _name(told: dict[str, Any]) -> str:
    """A condition as it was written; values in words."""
    return words(" and ").join(f"{n} = {retold(v)}" for n, v in told["values"]) or told["slice"]


def _cells(told: dict[str, Any], stage: str) -> list[Any]:
    return [_name(told), stage, told["rows"], told["error"], told["above"], told["q"]]
