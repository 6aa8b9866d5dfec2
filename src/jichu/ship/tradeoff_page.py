"""What a search for a smaller model came to, for people: a table, remarks and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table, interval
from jichu.auditing.page import render
from jichu.core.progress import number
from jichu.core.words import named, words

from .goal import Goal
from .measured import Measured
from .scores import Compared
from .tradeoff import FLOAT, Candidate, bits_of, tried


def section(candidates: Sequence[Candidate], chosen_on: str) -> list[Block]:
    """Every candidate with what it costs and loses, what is no faster here, and what could not be."""
    known = tried(candidates)
    first, metric = known[0][1], named(known[0][2].metric)
    heads = [
        words("candidate"), words("size, MiB"), words("share of the size"), words("ms for one row"),
        words("times as fast, one row"), words("times as fast, {rows} rows", rows=first.batch_size), metric,
        words("points lost"), words("answers changed"),
    ]  # fmt: skip
    rows = [[name, *_cells(measured, compared)] for name, measured, compared in known]
    told = words(
        "{metric} on {rows:,} rows ({which}). Timed by ONNX Runtime in {rounds} rounds, in turns with float32; threads: {threads}.",
        metric=metric, rows=known[0][2].rows, which=_rows(chosen_on), threads=first.threads, rounds=first.rounds,
    )  # fmt: skip
    return [Note(told), Table(heads, rows), *map(Note, remarks(candidates))]


def _rows(chosen_on: str) -> str:
    """What the rows are called by which candidates are chosen."""
    return words("the validation rows") if chosen_on == "validation" else words("every second test row")


def remarks(candidates: Sequence[Candidate]) -> list[str]:
    """What makes nothing faster on this machine, and what could not be tried."""
    found = []
    for candidate in candidates:
        if candidate.refused:
            found.append(words("{name} could not be: {why}", name=candidate.name, why=candidate.refused))
        elif candidate.measured and candidate.name != FLOAT:
            found += _no_faster(candidate.name, candidate.measured)
    return found


def _no_faster(name: str, found: Measured) -> list[str]:
    ratio = found.throughput_ratio
    if ratio.low > 1:
        return []
    if ratio.high < 1:
        return [words("{name} is {ratio}× as fast as float32 here", name=name, ratio=f"{ratio.value:.2f}")]
    return [words("{name} is no faster than float32 here", name=name)]


def _cells(found: Measured, compared: Compared) -> list[Any]:
    changed = "–" if compared.changed is None else f"{compared.changed:.1%}"
    return [
        round(found.size_bytes / 2**20, 2), round(found.size_ratio, 3), found.latency_ms.value,
        found.latency_ratio._asdict(), found.throughput_ratio._asdict(), compared.after.value, compared.lost._asdict(),
        changed,
    ]  # fmt: skip


def outcome(goal: Goal, best: Candidate, met: bool, final: Compared | None) -> list[str]:
    """Whether the goal is met, and by what; and what that loses on rows that nothing was chosen by."""
    template = (
        words("{goal} is met by {name}", goal=goal, name=best.name)
        if met
        else words("{goal} is not met; {name} comes nearest", goal=goal, name=best.name)
    )
    if final is None:
        return [template]
    value, ends = interval(final.lost._asdict())
    lost = words(
        "on {rows:,} rows that nothing was chosen by {metric} is {after}, {before} in float32: {lost} {ends} points lost",
        rows=final.rows, metric=named(final.metric), after=number(final.after.value), before=number(final.before.value),
        lost=value, ends=ends,
    )  # fmt: skip
    return [template, lost]


def write(
    path: Path, title: str, candidates: Sequence[Candidate], told: Sequence[str], met: bool, chosen_on: str
) -> None:
    """The page: what came of it, the curves, and the table."""
    render(
        path, "report.html.j2", title=title, lead=told if met else told[1:], cards=[], gates=[],
        worries=[] if met else [told[0]], warnings=[], data_page=None,
        sections=[
            (words("What is given for what"), [Figure(f) for f in _curves(candidates)]),
            (words("Candidates"), section(candidates, chosen_on)),
        ],
    )  # fmt: skip


def _curves(candidates: Sequence[Candidate]) -> list[str]:
    """The score against the size, and against the speed; a line for each scheme of bits."""
    sizes: dict[str, list[dict[str, float]]] = {}
    speeds: dict[str, list[dict[str, float]]] = {}
    for name, measured, compared in tried(candidates):
        score = compared.after._asdict()
        sizes.setdefault(bits_of(name), []).append({"at": measured.size_ratio, **score})
        speeds.setdefault(bits_of(name), []).append({"at": measured.throughput_ratio.value, **score})
    up = named(tried(candidates)[0][2].metric)
    return [
        figures.tradeoff(sizes, words("share of the size"), up),
        figures.tradeoff(speeds, words("times as fast"), up),
    ]
