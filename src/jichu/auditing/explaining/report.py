"""What was found of why a model says what it says, for people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Look, Note, Table, interval
from jichu.core.words import named, retold, words
from jichu.data.target import Target

from .drawing import overlay

_MOST = 20  # columns that are shown
_ALIKE = 0.8  # rank correlation from which on shuffled weights give nearly the same


def blocks(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
    """What the part `explanation` of an audit shows."""
    if not found:
        return
    if "refused" in found:
        yield Note(words("{stage} is not explained. {why}", stage=found["of"], why=retold(found["refused"])))
        return
    if "importance" in found:
        yield from _columns(found, target)
    if found.get("drawn") and look.pictures:
        yield from _drawn(found, look.pictures)
    yield from _examples(found, look)
    yield from _sanity(found)


def worries(found: dict[str, Any], stage: str) -> Iterator[str]:
    """Where attribution is not to be believed."""
    alike = found.get("sanity", {}).get("randomised")
    if alike and found["of"] == stage and (alike["low"] or 0) > _ALIKE:
        yield words(
            "Explanations of {stage} hardly depend on what it learnt: shuffled weights give nearly the same, rank correlation"
            " {alike} on {rows:,} rows.", stage=stage, alike=" ".join(interval(alike)), rows=alike["rows"],
        )  # fmt: skip


def _columns(found: dict[str, Any], target: Target | None) -> Iterator[Block]:
    number = target is not None and target.task == "regression"
    what = words("squared error") if number else words("share wrong")
    most = dict(sorted(found["importance"].items(), key=lambda item: -abs(item[1]["value"]))[:_MOST])
    yield Note(
        words(
            "By how much the {what} of {stage} rises where a column is shuffled among {shuffled:,} held-out rows, five times;"
            " and what the column is worth to an answer on average, whatever the sign, by {method} ({scale}) on {rows:,} of"
            " them.", what=what, stage=found["of"], shuffled=found["importance_rows"], method=named(found["method"]),
            scale=named("number" if number else found["scale"]), rows=found["rows"],
        )
    )  # fmt: skip
    yield Table(
        [words("column"), words("importance"), words("mean worth")],
        [[name, v, found["worth"][name]] for name, v in most.items()],
    )
    yield Figure(figures.comparison(most, words("rise of the {what}", what=what)))
    if tree := found.get("tree"):
        about = {"share": " ".join(interval(tree["fidelity"])), "rows": tree["rows"]}
        yield Note(
            words(
                "A small tree tells {share} of the variance of what the model says, on {rows:,} held-out rows. Read as rules:",
                **about,
            )
            if number
            else words(
                "A small tree says the same as the model in {share} of the rows, on {rows:,} held-out ones. Read as rules:",
                **about,
            )
        )
        rules = [
            [words("always") if rule == "always" else rule, float(says) if number else says, rows]
            for rule, says, rows in tree["rules"]
        ]
        yield Table([words("where"), words("it says"), words("training rows")], rules)


def _drawn(found: dict[str, Any], pictures: Callable[[Tensor], Tensor]) -> Iterator[Block]:
    rows = found["drawn"]
    seen = pictures(torch.tensor([one["row"] for one in rows]))
    drawn = [overlay(p, np.array(one["worth"])) for p, one in zip(seen, rows, strict=True)]
    yield Note(
        words(
            "Some held-out rows, and beside each what speaks for the answer of {stage} (orange) or against it (blue), by"
            " {method}.", stage=found["of"], method=named(found["method"]),
        )
    )  # fmt: skip
    addresses = [figures.uri(picture, "JPEG") for picture in drawn]
    yield Figure(figures.gallery(addresses, [one["record"] for one in rows], width=172, across=4))


def _examples(found: dict[str, Any], look: Look) -> Iterator[Block]:
    kinds = {words("stand for many"): found["prototypes"], words("not spoken for"): found["criticisms"]}
    yield Note(
        words(
            "Rows that stand for many, and rows that those do not speak for, by the features of {stage} among {among:,}"
            " held-out rows.", stage=found["of"], among=found["among"],
        )
    )  # fmt: skip
    if not look.pictures:
        records = [[one["record"] for one in those] for those in kinds.values()]
        yield Table(list(kinds), list(itertools.zip_longest(*records, fillvalue="")))
        return
    for name, those in kinds.items():
        if those:
            yield Note(f"{name}:".capitalize())
            seen = [figures.thumbnail(p) for p in look.pictures(torch.tensor([one["row"] for one in those]))]
            yield Figure(figures.gallery(seen, [one["record"] for one in those]))


def _sanity(found: dict[str, Any]) -> Iterator[Block]:
    sanity, rows = found["sanity"], []
    said = {
        "randomised": words(
            "rank correlation with what shuffled weights give: near 0 if it depends on what was learnt"
        ),
        "incomplete": words(
            "integrated gradients: by what share their sum misses the difference of the answers"
        ),
    }
    rows += [[told, sanity[key], sanity[key]["rows"]] for key, told in said.items() if key in sanity]
    for key, first, lot in (
        ("deletion", words("deletion, area: what is worth most is taken away first"), words("deletion, area: by lot")),
        ("insertion", words("insertion, area: it is put back first"), words("insertion, area: by lot")),
    ):  # fmt: skip
        if key in sanity:
            about = sanity[key]
            rows += [
                [first, about["method"], about["method"]["rows"]],
                [lot, about["random"], about["random"]["rows"]],
            ]
    yield Note(words("Whether attribution by {method} can be believed:", method=named(found["method"])))
    yield Table([words("check"), words("mean"), words("rows")], rows)
