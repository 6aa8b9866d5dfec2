"""What was found of why a model says what it says, for people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table
from jichu.auditing.parts.base import Look
from jichu.data.target import Target

from .drawing import overlay

_MOST = 20  # columns that are shown


def blocks(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
    """What the part `explanation` of an audit shows."""
    if not found:
        return
    if "refused" in found:
        yield Note(f"{found['of']} is not explained. {found['refused']}")
        return
    if "importance" in found:
        yield from _columns(found, target)
    if found.get("drawn") and look.pictures:
        yield from _drawn(found, look.pictures)
    yield from _examples(found, look)
    yield from _sanity(found)


def _columns(found: dict[str, Any], target: Target | None) -> Iterator[Block]:
    number = target is not None and target.task == "regression"
    what = "squared error" if number else "share that is wrong"
    most = dict(sorted(found["importance"].items(), key=lambda item: -abs(item[1]["value"]))[:_MOST])
    yield Note(
        f"By how much the {what} of {found['of']} rises where a column is shuffled among {found['importance_rows']:,}"
        f" held-out rows, five times; and what the column is worth to an answer on average, whatever the sign, by"
        f" {found['method']} ({found['scale'] if not number else 'number'}) on {found['rows']} of them."
    )
    yield Table(
        ["column", "importance", "mean worth"], [[name, v, found["worth"][name]] for name, v in most.items()]
    )
    yield Figure(figures.comparison(most, f"rise of the {what}"))
    if tree := found.get("tree"):
        low, high = (f"{tree['fidelity'][end]:.3f}" for end in ("low", "high"))
        share = f"{tree['fidelity']['value']:.3f} [{low}, {high}] of the"
        what = f"tells {share} variance of" if number else f"says the same in {share} rows as"
        yield Note(
            f"A small tree {what} what the model says, on {tree['rows']:,} held-out rows. Read as rules:"
        )
        yield Table(["where", "it says", "training rows"], tree["rules"])


def _drawn(found: dict[str, Any], pictures: Callable[[Tensor], Tensor]) -> Iterator[Block]:
    rows = found["drawn"]
    seen = pictures(torch.tensor([one["row"] for one in rows]))
    drawn = [overlay(p, np.array(one["worth"])) for p, one in zip(seen, rows, strict=True)]
    yield Note(
        f"Some held-out rows, and beside each what speaks for the answer of {found['of']} (orange) or against it (blue), by"
        f" {found['method']}."
    )
    addresses = [figures.uri(picture, "JPEG") for picture in drawn]
    yield Figure(figures.gallery(addresses, [one["record"] for one in rows], width=172, across=4))


def _examples(found: dict[str, Any], look: Look) -> Iterator[Block]:
    kinds = {"stand for many": found["prototypes"], "not spoken for": found["criticisms"]}
    yield Note(
        f"Rows that stand for many, and rows that those do not speak for, by the features of {found['of']} among"
        f" {found['among']:,} held-out rows."
    )
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
        "randomised": "rank correlation with what shuffled weights give: near 0 if it depends on what was learnt",
        "incomplete": "integrated gradients: by what share their sum misses the difference of the answers",
    }
    rows += [[words, sanity[key], sanity[key]["rows"]] for key, words in said.items() if key in sanity]
    for key, words in (
        ("deletion", "what is worth most is taken away first"),
        ("insertion", "it is put back first"),
    ):
        if key in sanity:
            about = sanity[key]
            rows += [
                [f"{key}, area: {words}", about["method"], about["method"]["rows"]],
                [f"{key}, area: by lot", about["random"], about["random"]["rows"]],
            ]
    yield Note(f"Whether attribution by {found['method']} can be believed:")
    yield Table(["check", "mean", "rows"], rows)
