"""What the figures of an audit have to be: `accuracy.lower: 0.9`, `cost.latency_p99: "<0.02"`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

from jichu.core.errors import CheckFailed, UsageError, nearest, shown, unknown
from jichu.core.names import resolve
from jichu.core.progress import number
from jichu.core.words import speaking, words
from jichu.metrics import METRICS

from .blocks import Table
from .parts import PARTS

_HOLDS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_BOUND = re.compile(r"(<=|>=|<|>)?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
_ASSIGNMENT = re.compile(r"((?:\([^)]*\)|[^<>=(])+)(=|(?=[<>]))(.+)")  # a metric's name may hold (k=2)
_ENDS = {"lower": "low", "upper": "high"}
_INTERVAL = {"value", "low", "high"}
_ALWAYS = ("gain", "by_class", "rows", "draws")  # what an audit tells beside metrics and parts


class Gate(NamedTuple):
    """A figure by its name, how it is compared, and with what."""

    name: str
    symbol: str
    bound: float

    @property
    def asked(self) -> str:
        return f"{self.symbol} {self.bound:g}"

    def margin(self, value: float) -> float:
        """By how much it holds; negative where it does not."""
        return value - self.bound if self.symbol in (">", ">=") else self.bound - value


def assignment(text: str) -> tuple[str, str]:
    """Name and bound of `accuracy=0.9` or `log_loss<0.5`, as a command line has them."""
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        raise UsageError(f"--gate {shown(text)} asks nothing", expected="accuracy.lower=0.9, or log_loss<0.5")
    return match[1].strip(), match[3].strip()


def parse(asked: Mapping[str, float | str], where: str = "gates") -> list[Gate]:
    """The gates of names and bounds. UsageError where a bound is none, or where a number stands alone and the figure is
    no metric that says whether more is better."""
    made = []
    for name, bound in asked.items():
        match = _BOUND.fullmatch(str(bound).strip())
        if match is None:
            raise UsageError(
                f"the bound {shown(bound)}", where=f"{where}.{name}", expected='a number, "<0.5" or ">=0.9"'
            )
        made.append(Gate(name, match[1] or _usual(name, match[2], where), float(match[2])))
    return made


def _usual(name: str, bound: str, where: str) -> str:
    """How a metric is compared with a number that stands alone: at least, or of losses at most."""
    metric = name.rpartition(":")[2].removesuffix(".lower").removesuffix(".upper")
    last = metric.partition("(")[0].rpartition(".")[2]
    if last not in METRICS:
        raise UsageError(
            f"{last} does not say whether more of it is better",
            where=f"{where}.{name}",
            expected=f'"<{bound}" or ">{bound}"',
        )
    return "<=" if getattr(resolve("metric", last, METRICS), "lower_is_better", False) else ">="


def check(
    names: Collection[str], metrics: Collection[str], parts: Collection[str], stages: Collection[str],
    columns: Collection[str] = (), where: str = "gates",
) -> None:  # fmt: skip
    """UsageError where a gate cannot be on a figure of an audit of these metrics, parts, stages, and of further targets in
    these columns. What is inside a part is known when it is measured."""
    ends = [f"{metric}{end}" for metric in metrics for end in ("", *(f".{end}" for end in _ENDS))]
    for gate in names:
        if any(gate.startswith(f"{part}.") for part in parts):  # its name may be an import path, with a colon
            continue
        stage, colon, name = gate.rpartition(":")
        at = f"{where}.{gate}"
        if colon and stage not in stages:
            raise unknown("stage", stage, stages, where=at)
        first = name.partition(".")[0]
        if name in ends or first in {*parts, *columns, *_ALWAYS}:
            continue
        if first in PARTS:
            raise UsageError(f"{first} is not asked for", where=at, expected=f"parts: [{first}]")
        if first in METRICS and first not in metrics:
            raise UsageError(f"{first} is not measured", where=at, expected=f"one of {', '.join(metrics)}")
        raise UsageError(
            f"no figure is called {shown(name)}", where=at,
            expected=f"one of {', '.join([*metrics, *parts])}, of a metric also .lower and .upper",
            nearest=nearest(name, [*ends, *parts, *PARTS, *columns]),
        )  # fmt: skip


def figures(audit: dict[str, Any], chosen: str) -> dict[str, float | None]:
    """Every figure of an audit by the name that gates have for it: of the chosen model as it is, of a stage
    `STAGE:name`, of further targets `COLUMN.name`."""
    models = [audit["models"], *(part.get("models", {}) for part in audit.get("parts", {}).values())]
    found = dict(_of(audit, chosen))
    for stage in dict.fromkeys(stage for held in models for stage in held):
        found |= {f"{stage}:{name}": value for name, value in _of(audit, stage)}
    return found


def concluded(audit: dict[str, Any], stage: str) -> dict[str, Any]:
    """What trackers are told of a stage: every figure by that name, and whether the gates hold."""
    figures = {f"test/{name}": value for name, value in _of(audit, stage) if value is not None}
    failed = [gate["gate"] for gate in audit["gates"] if not gate["holds"]]
    verdict = f"failed: {', '.join(failed)}" if failed else "passed"
    return figures | ({"gates": verdict} if audit["gates"] else {})


def _of(audit: dict[str, Any], stage: str) -> Iterator[tuple[str, float | None]]:
    model = dict(audit["models"].get(stage, {}))
    yield from _walk(model.pop("metrics", {}), stage)
    yield from _walk(model, stage)
    yield from _walk({"gain": audit.get("gain", {})}, stage)
    yield from _walk(audit.get("parts", {}), stage)
    for column, other in audit.get("others", {}).items():
        yield from ((f"{column}.{name}", value) for name, value in _of(other, stage))


def _walk(found: Any, stage: str, name: str = "") -> Iterator[tuple[str, float | None]]:
    """The numbers in nested findings by their dotted names. An interval is also its ends; of models, by stage, one is
    looked into, and does not lengthen the name."""
    if not isinstance(found, dict):
        if found is None or (isinstance(found, Real) and not isinstance(found, bool)):
            yield name, _number(found)
        return
    if interval := found.keys() >= _INTERVAL:
        yield name, _number(found["value"])
        yield from ((f"{name}.{end}", _number(found[key])) for end, key in _ENDS.items())
    for key, inside in found.items():
        if key == "models" and isinstance(inside, dict):
            yield from _walk(inside.get(stage, {}), stage, name)
        elif not (interval and key in _INTERVAL):
            yield from _walk(inside, stage, f"{name}.{key}" if name else str(key))


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def measured(gates: Collection[Gate], audit: dict[str, Any], chosen: str) -> list[dict[str, Any]]:
    """Of each gate what was asked and found, whether it holds, and by how much: [{"gate", "asked", "value", "holds",
    "by"}], with "nearest" where there is no figure of that name. A figure that is no number holds nothing."""
    known = figures(audit, chosen)
    told = []
    for gate in gates:
        value = known.get(gate.name)
        about: dict[str, Any] = {"gate": gate.name, "asked": gate.asked, "value": value}
        about |= {"holds": False, "by": None}
        if gate.name not in known:
            about["nearest"] = nearest(gate.name, known)
        elif value is not None:
            about |= {"holds": bool(_HOLDS[gate.symbol](value, gate.bound)), "by": gate.margin(value)}
        told.append(about)
    return told


def table(gates: Collection[dict[str, Any]]) -> Table:
    """All of them, for people."""
    rows = [
        [g["gate"], g["asked"], g["value"], words("holds") if g["holds"] else words("fails"), g["by"]]
        for g in gates
    ]
    return Table(
        [words("gate"), words("asked"), words("found"), words("outcome"), words("by how much")], rows
    )


def said(gate: dict[str, Any]) -> str:
    """How it went, in a line."""
    about = {"gate": gate["gate"], "asked": gate["asked"]}
    if gate.get("nearest"):
        return words(
            "{gate} {asked}: there is no such figure; did you mean {nearest}?",
            **about,
            nearest=gate["nearest"],
        )
    if "nearest" in gate:
        return words("{gate} {asked}: there is no such figure", **about)
    if gate["by"] is None:
        return words("{gate} {asked}: found is no number", **about)
    about |= {"value": number(gate["value"]), "by": number(abs(gate["by"]))}
    if gate["holds"]:
        return words("{gate} {asked}: is {value}, holds by {by}", **about)
    return words("{gate} {asked}: is {value}, fails by {by}", **about)


def require(gates: Collection[dict[str, Any]], where: object = None) -> None:
    """CheckFailed with a line for each gate that does not hold."""
    if failed := [gate for gate in gates if not gate["holds"]]:
        with speaking("en"):  # as all errors are
            lines = "".join(f"\n  {said(gate)}" for gate in failed)
        raise CheckFailed(f"{len(failed)} of {len(gates)} gates do not hold:{lines}", where=where)
