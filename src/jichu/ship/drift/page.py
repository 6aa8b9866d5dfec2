"""What a comparison of logs with a run's own data came to, for people: sentences, tables and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Section, Table, interval
from jichu.auditing.page import render
from jichu.core.progress import number
from jichu.core.words import named, words

from .observed import CONFIDENCE, NEW_WORDS

_FEW, _COARSE = 30, 0.3  # rows, and the change that would be seen, from which on there is a remark
_CARDS, _FIGURES = 4, 40
_OURS = ("features", NEW_WORDS, "brightness", "contrast", "loudness")  # names of traits


def write(path: Path, found: dict[str, Any]) -> None:
    """The page."""
    render(
        path, "report.html.j2", title=words("Drift: {run}", run=found["run"]), lead=_lead(found), cards=_cards(found),
        gates=[], worries=[verdict(found)] if found["alarm"] else [], warnings=list(remarks(found)), data_page=None,
        sections=[section for section in sections(found) if section[1]],
    )  # fmt: skip


def verdict(found: dict[str, Any]) -> str:
    """In a sentence whether anything has changed."""
    if found["alarm"]:
        return words(
            "Alarm: {names} differ from the run's own data by more than chance explains.",
            names=", ".join(dict.fromkeys(map(_named, found["alarms"]))),
        )
    return words("No alarm: chance explains what differs.")


def _named(name: str) -> str:
    """A column as people read it: those of a table are called as they are there."""
    if name.endswith(CONFIDENCE):
        return words("{column}, confidence", column=name.removesuffix(CONFIDENCE))
    return named(name) if name in _OURS else name


def remarks(found: dict[str, Any]) -> Iterator[str]:
    """What else has to be known."""
    told, logs = found["told"], found["rows"]
    seen = found["seen"]
    if seen is not None and (logs < _FEW or seen >= _COARSE):
        yield words(
            "{rows:,} rows are few: only a share that changes by {points} points or more would be found, four times out of five.",
            rows=logs, points=_points(seen),
        )  # fmt: skip
    if told.get("sampled"):
        yield words("There are more rows in the logs than are looked at; which ones were drawn.")
    if again := told.get("asked_again"):
        yield words(
            "{rows:,} rows were answered by another version of the model, and have been asked again.",
            rows=again,
        )
    if lost := told.get("other_versions", 0) - told.get("asked_again", 0):
        yield words(
            "{rows:,} rows were answered by another version of the model; its answers are not compared.",
            rows=lost,
        )
    if told.get("unreadable"):
        yield words("{rows:,} rows cannot be decoded.", rows=told["unreadable"])
    if told["held_out"] == "train":
        yield words(
            "The run has held out no rows: its answers on training rows are surer than on others, which may be taken for drift."
        )


def _points(share: float) -> str:
    return f"{100 * share:.2g}"


def _lead(found: dict[str, Any]) -> list[str]:
    told = [found["logs"], words("{rows:,} rows", rows=found["rows"])]
    if not found["alarm"]:
        told.insert(0, verdict(found))
    if found["times"]:
        first, last = (time.replace("T", " ") for time in found["times"])
        told.append(words("{low} to {high}", low=first, high=last))
    return told


def _cards(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """How many alarms, and the columns that are the farthest apart."""
    tests = found["tests"]
    cards = [
        (
            words("alarms"),
            number(sum(t["alarm"] for t in tests)),
            words("of {count:,} tests", count=len(tests)),
        )
    ]
    for test in tests[: _CARDS - 1]:
        shown, ends = interval(test["distance"])
        cards.append((_title(test), shown, words("{ends} on {rows:,} rows", ends=ends, rows=test["rows"][1])))
    return cards


def _title(test: dict[str, Any]) -> str:
    name = _named(test["name"])
    return words("{column}, missing", column=name) if test["test"] == "missing" else name


def sections(found: dict[str, Any]) -> Iterator[Section]:
    """The tests, each column drawn, how it went in time, and how all that was found."""
    yield words("What differs"), [_table(found["tests"])]
    yield words("In time"), list(_in_time(found["windows"]))
    for group, title in (("inputs", words("Inputs")), ("predictions", words("Predictions"))):
        yield title, list(_drawn([test for test in found["tests"] if test["group"] == group]))
    yield words("How this was found"), list(_how(found))


def _table(tests: list[dict[str, Any]]) -> Table:
    rows = [
        [
            _title(test), named(test["group"]), words("alarm") if test["alarm"] else "–", test["distance"], test.get("psi"),
            _probability(test["p"]), _probability(test["p_holm"]), named(test["test"]), test["rows"][0], test["rows"][1],
        ]
        for test in tests
    ]  # fmt: skip
    heads = [
        words("column"), words("of"), words("verdict"), words("distance"), "PSI", "p", words("p after Holm"), words("test"),
        words("rows of the reference"), words("rows of the logs"),
    ]  # fmt: skip
    return Table(heads, rows)


def _probability(p: float) -> str:
    return f"{p:.2g}"


def _drawn(tests: list[dict[str, Any]]) -> Iterator[Block]:
    for test in tests[:_FIGURES]:
        if new := test.get("new"):
            told = ", ".join(f"{name} ({count:,})" for name, count in new.items())
            yield Note(words("New in {column}: {names}", column=test["name"], names=told), loud=test["alarm"])
        if shares := test.get("drawn"):
            if "names" in shares:
                shares = {
                    **shares,
                    "names": [words("new") if name is None else name for name in shares["names"]],
                }
            yield Figure(figures.distributions(shares, _named(test["name"])))


def _in_time(windows: list[dict[str, Any]]) -> Iterator[Block]:
    if len(windows) > 1:
        yield Figure(
            figures.over_time(
                [w["from"] for w in windows], [w["distance"] for w in windows], words("distance")
            ),
            wide=True,
        )
        yield Note(
            words(
                "The distance from the reference in each stretch of time; with few rows chance alone makes it large."
            )
        )


def _how(found: dict[str, Any]) -> Iterator[Block]:
    told = found["told"]
    yield Note(
        words(
            "Inputs are compared with {inputs:,} rows of the split {split}; predictions, features and new words with {held:,} rows of the"
            " split {held_out}, which the model was not trained on: of training rows it is surer than of any others.",
            inputs=found["reference_rows"], held=found["held_out_rows"], split=named(told["reference"]),
            held_out=named(told["held_out"]),
        )
    )  # fmt: skip
    yield Note(
        words(
            "Numbers are compared by the test of Kolmogorov and Smirnov, categories by Pearson's chi-square, features by the energy"
            " distance (Székely and Rizzo, 2013), each with {draws:,} permutations; the distance is the largest difference of the"
            " cumulated shares, the total variation, or the share of the energy distance in the mean distance, from 0 to 1. PSI is the population stability index.",
            draws=found["draws"],
        )
    )  # fmt: skip
    yield Note(
        words(
            "Where nothing has changed the chance of any alarm among the {count:,} tests is at most {alpha}, by Holm's correction."
            " Square brackets hold 95% bootstrap intervals.", count=len(found["tests"]), alpha=f"{found['alpha']:g}",
        )
    )  # fmt: skip
    if found["seen"] is not None:
        yield Note(
            words(
                "With these rows a share of about a half that changes by {points} points would be found four times out of five.",
                points=_points(found["seen"]),
            )
        )
