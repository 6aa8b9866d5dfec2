"""How groups of rows fare: rates by group, gaps between groups, and what thresholds by group would make of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from jichu.auditing import figures
from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Figure, Note, Table, interval
from jichu.core.errors import UsageError, unknown
from jichu.core.progress import task
from jichu.core.words import named, retold, words
from jichu.data.dataset import Dataset
from jichu.data.groups import Groups, crossed, folded, groups
from jichu.data.target import Target
from jichu.metrics import fairness
from jichu.metrics.intervals import mean_interval
from jichu.metrics.thresholds import Goal, Policy, thresholds

from .base import Look, Part, Subject

_MOST = 40  # groups of a grouping that are told apart
_DRAWN = 3  # rates in a figure
Array = np.ndarray


class _Grouping(NamedTuple):
    """Groups of all rows, by some columns."""

    by: tuple[str, ...]
    of: Groups


class Fairness(Part):
    """Of the groups of each column in `by` (those kept aside, if not given), of each two of them together, and of all:
    how often the `favourable` class (of two the second) is predicted, rightly and wrongly, accuracy, and by how much the
    model's confidence in it is above its rate; of numbers what is predicted and how far off. Rates of fewer than `least`
    rows take no part in the gaps. Numbers and times are cut into `bins` of as many rows each. With `thresholds` what
    thresholds by group, chosen on the validation rows for that goal, make of the held-out rows."""

    title = "Fair to whom?"
    tasks = ("classification", "regression")

    def __init__(
        self,
        by: Annotated[list[str], Field(min_length=1)] | None = None,
        favourable: str | bool | int | None = None,
        least: Annotated[int, Field(ge=1)] = 20,
        bins: Annotated[int, Field(ge=2, le=20)] = 4,
        thresholds: Goal | None = None,
    ):
        self.by, self.least, self.bins, self.goal = by, least, bins, thresholds
        if isinstance(favourable, bool):
            raise UsageError(
                f"{str(favourable).lower()} is no name of a class", where="parts.fairness.favourable",
                expected='a name in quotes: yes, no, on and off are true and false to YAML, "yes" is a word',
            )  # fmt: skip
        self.favourable = "" if favourable is None else str(favourable)

    def check(self, dataset: Dataset, target: Target | None) -> None:
        assert target is not None
        if not (self.by or dataset.aside):
            raise UsageError(
                "fairness to nobody: no groups are named", where="parts.fairness.by",
                expected="columns, such as [sex], here or as data.aside",
            )  # fmt: skip
        for name in self._columns(dataset):
            dataset.column(name, "parts.fairness.by")
            if name == target.column:
                raise UsageError(
                    f"{name!r} is what is predicted", where="parts.fairness.by", expected="other columns"
                )
        targets = [t for t in (target, *dataset.targets.values()) if t.task == "classification"]
        known = {name for t in targets for name in t.classes}
        if self.favourable and self.favourable not in known:
            raise unknown("class", self.favourable, known, where="parts.fairness.favourable")
        if len(target.classes) > 2 and self.favourable not in target.classes:
            raise UsageError(
                f"which of the {len(target.classes)} classes of {target.column} is favourable is not said",
                where="parts.fairness.favourable", expected=f"one of {', '.join(target.classes)}",
            )  # fmt: skip
        if self.goal and not targets:
            raise UsageError(
                f"{target.column} is a number, which no threshold decides", where="parts.fairness.thresholds",
                expected="no such key",
            )  # fmt: skip

    def _columns(self, dataset: Dataset) -> list[str]:
        return list(dict.fromkeys(self.by or dataset.aside))

    def _favourable(self, target: Target) -> int:
        """The code of the favourable class: the one that is named, else of two the second."""
        return target.classes.index(self.favourable) if self.favourable in target.classes else 1

    def measure(self, subject: Subject) -> dict[str, Any]:
        target = subject.target
        assert target is not None
        rows = tables.scores(subject.table, subject.fitted[0])[0]
        groupings = list(self._groupings(subject.dataset, rows))
        of_classes = target.task == "classification"
        found: dict[str, Any] = {"least": self.least, "bins": self.bins}
        found |= {"favourable": target.classes[self._favourable(target)]} if of_classes else {}
        counted = {stage: self._counted(stage, subject, target) for stage in subject.fitted}
        with task("groups", len(groupings) * len(counted)) as shown:
            found["groupings"] = []
            for grouping in groupings:
                found["groupings"].append(
                    self._told(grouping, grouping.of.codes[rows], counted, of_classes, subject.seed)
                )
                shown.advance(len(counted))
        found["models"] = {stage: _gaps(found["groupings"], stage) for stage in counted}
        if self.goal and of_classes:
            found["thresholds"] = self._moved(subject, groupings[-1], target)
        return found

    def _groupings(self, dataset: Dataset, rows: Array) -> Iterator[_Grouping]:
        """Of each column, then of two of them together, and of all."""
        names = self._columns(dataset)
        single = {name: groups(dataset.column(name), self.bins, rows) for name in names}
        for size in sorted({1, min(2, len(names)), len(names)}):
            for some in itertools.combinations(names, size):
                joined = crossed([single[n] for n in some]) if size > 1 else single[some[0]]
                yield _Grouping(some, folded(joined, rows, _MOST))

    def _counted(self, stage: str, subject: Subject, target: Target) -> Array:
        """What the held-out rows count for, [D, N, S]."""
        _, truth, every = tables.scores(subject.table, stage)
        if target.task == "regression":
            predicted = tables.predictions(subject.table, stage)
            return np.stack([fairness.errors(truth, draw) for draw in predicted])
        code = self._favourable(target)
        return np.stack([fairness.decisions(truth == code, s.argmax(1) == code, s[:, code]) for s in every])

    def _told(
        self, grouping: _Grouping, codes: Array, counted: dict[str, Array], of_classes: bool, seed: int
    ) -> dict[str, Any]:
        measure = fairness.CLASSES if of_classes else fairness.NUMBERS
        count = len(grouping.of.names)
        rows = np.bincount(codes, minlength=count)
        there = np.flatnonzero(rows)
        told: dict[str, Any] = {
            "by": list(grouping.by),
            "cut": grouping.of.cut,
            "groups": [grouping.of.names[g] for g in there],
            "rows": rows[there].tolist(),
        }
        behind = np.repeat(rows[:, None], len(measure.rates), 1)
        if of_classes:
            due = np.bincount(codes, next(iter(counted.values()))[0, :, 2], count).astype(int)
            told["due"] = due[there].tolist()
            behind[:, 1:3] = np.stack([due, rows - due], 1)
        compared = behind >= self.least
        if count > _MOST:
            compared[_MOST] = False  # the others are no group
        told["compared"] = compared[there, 0].tolist()
        told["models"] = {}
        for stage, parts in counted.items():
            found = fairness.by_group(measure, parts, codes, count, compared, seed=seed)
            told["models"][stage] = {
                "rates": [_plain(found.rates[g]) for g in there],
                "gaps": _plain(found.gaps),
            }
        return told

    def _moved(self, subject: Subject, grouping: _Grouping, target: Target) -> dict[str, Any]:
        """Thresholds by group, and what they change on the held-out rows of the first draw."""
        assert self.goal is not None
        validation = subject.validation.numpy()
        found: dict[str, Any] = {
            "goal": self.goal,
            "by": list(grouping.by),
            "validation_rows": len(validation),
            "models": {},
        }
        if len(validation) < self.least:
            return found
        code = self._favourable(target)
        for stage in subject.fitted:
            theirs, scores = subject.validated(stage)
            count = len(grouping.of.names)
            policy = thresholds(
                self.goal, theirs == code, scores[:, code], grouping.of.codes[validation], count, self.least
            )
            rows, truth, every = tables.scores(subject.table, stage)
            codes, odds, due = grouping.of.codes[rows], every[0][:, code], truth == code
            after = fairness.decisions(due, policy.chosen(odds, codes), odds)[None]
            before = fairness.decisions(due, every[0].argmax(1) == code, odds)[None]
            told = self._told(grouping, codes, {"before": before, "after": after}, True, subject.seed)
            there = np.flatnonzero(np.bincount(codes, minlength=count))
            found["models"][stage] = {
                "gaps": {name: told["models"][name]["gaps"] for name in ("before", "after")},
                "accuracy": {
                    name: mean_interval(parts[..., 4], seed=subject.seed)._asdict()
                    for name, parts in {"before": before, "after": after, "change": after - before}.items()
                },
                "groups": told["groups"],
                "policy": [_plain_policy(policy, g) for g in there],
                "coin_selects": policy.rate,
            }
        return found

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if "favourable" in found:
            yield Note(
                words(
                    "The favourable decision is {favourable} (of two classes the second, where `favourable` names none). A"
                    " group's selection rate is how often it gets it, the true positive rate how often those who should do, the"
                    " false positive rate how often the others do; confidence above rate is how much surer of it the model is"
                    " than it comes true.", favourable=found["favourable"],
                )
            )  # fmt: skip
        first = next(iter(found["groupings"][0]["models"].values()))
        yield Table(
            [
                words("groups by"),
                words("model"),
                words("groups compared"),
                words("rows"),
                *map(named, first["gaps"]),
            ],
            [
                [" × ".join(g["by"]), stage, sum(g["compared"]), sum(g["rows"]), *m["gaps"].values()]
                for g in found["groupings"]
                for stage, m in g["models"].items()
            ],
        )
        yield Note(
            words(
                "Gaps are between the two groups that are furthest apart, and so are their intervals, which begin at 0 where"
                " these two might as well be the other way round. Rates of fewer than {least} rows take no part. Of many small"
                " groups two are always some way apart.", least=found["least"],
            )
        )  # fmt: skip
        for grouping in found["groupings"]:
            yield from _shown(grouping, found["bins"])
        if "thresholds" in found:
            rows = sum(found["groupings"][0]["rows"])
            yield from _shown_thresholds(found["thresholds"], found["least"], rows)

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        for grouping in found["groupings"]:
            if len(grouping["by"]) > 1:
                continue
            gaps = grouping["models"].get(stage, {}).get("gaps", {})
            apart = {n: gap for n, gap in gaps.items() if not n.endswith("ratio") and (gap["low"] or 0) > 0}
            if apart:
                name = max(apart, key=lambda n: apart[n]["value"])
                yield words(
                    "Groups by {column} fare differently: {gap} {value} on {rows:,} rows.",
                    column=grouping["by"][0], gap=named(name), value=" ".join(interval(apart[name])), rows=sum(grouping["rows"]),
                )  # fmt: skip


def _gaps(groupings: list[dict[str, Any]], stage: str) -> dict[str, Any]:
    """Each gap by grouping, and of all groupings the widest, for gates."""
    by = {" and ".join(g["by"]): g["models"][stage]["gaps"] for g in groupings}
    widest = {}
    for name in next(iter(by.values())):
        known = [gaps[name] for gaps in by.values() if not math.isnan(gaps[name]["value"])]
        choose = min if name.endswith("ratio") else max
        widest[name] = choose(known, key=lambda gap: gap["value"], default=next(iter(by.values()))[name])
    return {**widest, "by": by}


def _plain(intervals: dict[str, Any]) -> dict[str, Any]:
    return {name: interval._asdict() for name, interval in intervals.items()}


def _plain_policy(policy: Policy, group: Any) -> dict[str, Any]:
    """JSON has no infinity: a threshold that nobody reaches is None."""
    both = [float(t[group]) for t in (policy.first, policy.second)]
    return {
        "thresholds": [t if np.isfinite(t) else None for t in both],
        "first": float(policy.mix[group]),
        "coin": float(policy.coin[group]),
    }


def _group(name: str) -> str:
    """What a group is called: values, the words between and beside them in the language that is spoken."""
    return " × ".join(map(retold, name.split(" × ")))


def _shown(grouping: dict[str, Any], bins: int) -> Iterator[Block]:
    names, models = list(map(_group, grouping["groups"])), grouping["models"]
    rates = list(next(iter(models.values()))["rates"][0])
    few = [name for name, there in zip(names, grouping["compared"], strict=True) if not there]
    due = [words("of these due")] if "due" in grouping else []
    yield Table(
        [" × ".join(grouping["by"]), words("rows"), *due, words("model"), *map(named, rates)],
        [
            [
                name,
                grouping["rows"][i],
                *([grouping["due"][i]] if due else []),
                stage,
                *m["rates"][i].values(),
            ]
            for i, name in enumerate(names)
            for stage, m in models.items()
        ],
    )
    if grouping["cut"]:
        yield Note(
            words(
                "Numbers and times are cut into up to {bins} stretches of as many held-out rows each.",
                bins=bins,
            )
        )
    if few:
        told = ", ".join(few[:12]) + (" …" if len(few) > 12 else "")
        yield Note(words("Too few rows to compare: {groups}.", groups=told))
    yield Figure(
        figures.by_group(
            names,
            {r: {stage: [of[r] for of in m["rates"]] for stage, m in models.items()} for r in rates[:_DRAWN]},
            words("rates by {columns}", columns=" × ".join(grouping["by"])),
        ),
        wide=True,
    )


def _shown_thresholds(found: dict[str, Any], least: int, rows: int) -> Iterator[Block]:
    goal, models = named(found["goal"]), found["models"]
    if not models:
        yield Note(
            words(
                "There are {validation:,} labelled validation rows, and {least} are wanted to choose thresholds by group:"
                " data.split.validation.", validation=found["validation_rows"], least=least,
            )
        )  # fmt: skip
        return
    gap, after = f"{found['goal']}_difference", words("after")
    yield Table(
        [words("thresholds for {goal}", goal=goal), named(gap), after, named("accuracy"), after, words("change")],
        [
            [stage, m["gaps"]["before"][gap], m["gaps"]["after"][gap], *(m["accuracy"][n] for n in ("before", "after", "change"))]
            for stage, m in models.items()
        ],
    )  # fmt: skip
    yield Table(
        [words("model"), " × ".join(found["by"]), words("selected from a probability of"),
         words("in a share of cases from"), words("by a coin")],
        [
            [stage, _group(name), *_said(policy)]
            for stage, m in models.items()
            for name, policy in zip(m["groups"], m["policy"], strict=True)
        ],
    )  # fmt: skip
    yield Note(
        words(
            "Chosen on {validation:,} validation rows, measured on {rows:,} held-out ones, first draw: of the policies under"
            " which the groups are equal there, the one with the most decisions right. A group of fewer than {least} rows that"
            " are due it, or are not, keeps 0.5. Where a group has a second threshold, or a coin that looks at nothing, chance"
            " decides between them.", validation=found["validation_rows"], rows=rows, least=least,
        )
    )  # fmt: skip


def _said(policy: dict[str, Any]) -> list[Any]:
    """The threshold that decides most often, the other one, and the coin's share."""
    both = [words("nobody") if t is None else f"{t:.3g}" for t in policy["thresholds"]]
    first = policy["first"]
    if first < 0.5:
        both, first = both[::-1], 1 - first
    other = f"{1 - first:.0%}: {both[1]}" if first < 0.9995 and both[0] != both[1] else None
    return [both[0], other, f"{policy['coin']:.0%}" if policy["coin"] > 5e-4 else None]
