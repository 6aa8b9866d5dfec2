"""What an audit comes to, in a few lines: what a reader has to know before all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jichu.core.words import named, retold, words
from jichu.data.target import Target

from . import gates, parts
from .blocks import interval
from .measure import chosen as of_result


def cards(audit: dict[str, Any], chosen: str | None) -> list[tuple[str, str, str]]:
    """The primary figure of each model (of one alone all its figures) and the gain: what it is called, it, and its interval
    with the rows behind it."""
    models, primary = audit["models"], audit["primary"]
    first = of_result(audit, chosen)
    if len(models) == 1:
        told = [(named(name), v, models[first]["rows"]) for name, v in models[first]["metrics"].items()]
    else:
        order = sorted(models, key=lambda name: name != first)
        told = [(f"{n}: {named(primary)}", models[n]["metrics"][primary], models[n]["rows"]) for n in order]
    if "gain" in audit:
        told.append((words("gain in {metric}", metric=named(primary)), audit["gain"], models[first]["rows"]))
    found: list[tuple[str, str, str]] = []
    for name, value, rows in told:
        shown, ends = interval(value)
        sign = "+" if "of" in value and (value["value"] or 0) > 0 else ""
        found.append((name, sign + shown, words("{ends} on {rows:,} rows", ends=ends, rows=rows)))
    for column, other in audit.get("others", {}).items():
        found += [(f"{column}: {name}", shown, ends) for name, shown, ends in cards(other, chosen)]
    return found


def worries(audit: dict[str, Any], chosen: str | None, targets: dict[str, Target]) -> Iterator[str]:
    """What is wrong or may be: gates that fail, and what each part of the audit found of the chosen model."""
    yield from (gates.said(gate) for gate in audit.get("gates", []) if not gate["holds"])
    if gain := audit.get("gain"):
        yield from _of_the_gain(gain, audit)
    yield from parts.worries(audit, of_result(audit, chosen), targets)


def _of_the_gain(gain: dict[str, Any], audit: dict[str, Any]) -> Iterator[str]:
    one, two = gain["of"]
    if (gain["high"] or 0) < 0:
        yield words(
            "{one} is worse than {two} in {metric}: {gain} on {rows:,} rows.", one=one, two=two, metric=named(audit["primary"]),
            gain=" ".join(interval(gain)), rows=audit["models"][one]["rows"],
        )  # fmt: skip
    elif (gain["low"] or 0) <= 0:
        yield words("Between {one} and {two} this run shows no difference.", one=one, two=two)


def warnings(summary: dict[str, Any]) -> list[str]:
    """What the stages of a run warned of."""
    return [retold(text) for text in summary.get("warnings") or []]
