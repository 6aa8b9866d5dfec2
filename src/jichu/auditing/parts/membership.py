"""Can somebody who asks the model tell which rows it was trained on?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Note, Table, interval
from jichu.core.progress import say
from jichu.core.randomness import generator
from jichu.core.words import named, words
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.metrics.membership import confidence, leakage, likelihood_ratio
from jichu.models.model import Model
from jichu.train.predict import predict

from .base import Look, Part, Subject

_FALSE = 0.001  # share of the strangers that may be taken for members
_FEWEST = 10
_LEAKS = 0.55  # AUROC above which the rows are told apart well enough to be told first of all
Array = np.ndarray


class Membership(Part):
    """Membership inference: rows that were trained on against held-out ones, told apart by the model's loss (Yeom et al.,
    2018); with `shadows`, of which it wants two and better sixteen, also by the likelihood ratio of as many models that are
    trained as the stage says on random parts of both (LiRA: Carlini et al., 2022). `rows` of each kind are asked about."""

    title = "Does it give its training rows away?"
    tasks = ("classification",)

    def __init__(
        self, rows: Annotated[int, Field(ge=_FEWEST)] = 2000, shadows: Annotated[int, Field(ge=0, le=512)] = 0
    ):
        self.rows, self.shadows = rows, shadows

    def measure(self, subject: Subject) -> dict[str, Any]:
        members, strangers = evenly(subject.trained_on, self.rows), subject.sample(self.rows)
        about = {"members": len(members), "strangers": len(strangers), "shadows": self.shadows, "at": _FALSE}
        if min(len(members), len(strangers)) < _FEWEST:
            return about | {"models": {}}
        return about | {
            "models": {stage: self._of(stage, subject, members, strangers) for stage in subject.fitted}
        }

    def _of(self, stage: str, subject: Subject, members: Tensor, strangers: Tensor) -> dict[str, Any]:
        asked = torch.cat([members, strangers])
        mine = _confidences(subject.load(stage), subject, asked)
        found = {"loss": _apart(mine, len(members), subject.seed)}
        if self.shadows and subject.retrain is not None:
            ratios = self._ratios(stage, subject, asked, mine)
            known = np.isfinite(ratios)
            is_member = np.arange(len(asked)) < len(members)
            told = leakage(ratios[known & is_member], ratios[known & ~is_member], _FALSE, subject.seed)
            found["likelihood_ratio"] = {name: interval._asdict() for name, interval in told.items()}
        return found

    def _ratios(self, stage: str, subject: Subject, asked: Tensor, mine: Array) -> Array:
        """By models trained on as many rows, drawn from members and strangers alike."""
        assert subject.retrain is not None
        members, strangers = subject.trained_on, subject.sample(len(subject.rows))
        pool = torch.cat([members, strangers])
        confidences, inside = [], []
        for shadow in range(self.shadows):
            say(f"  membership of {stage}: shadow model {shadow + 1} of {self.shadows}")
            chosen = torch.randperm(len(pool), generator=generator(subject.seed, "shadow", stage, shadow))
            rows = pool[chosen[: len(members)]].sort().values
            confidences.append(_confidences(subject.retrain(stage, rows, shadow), subject, asked))
            inside.append(torch.isin(asked, rows).numpy())
        return likelihood_ratio(mine, np.stack(confidences), np.stack(inside))

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if not found["models"]:
            yield Note(
                words(
                    "There are {members:,} rows that the model was trained on here and {strangers:,} held out; {few} of each"
                    " are wanted.", members=found["members"], strangers=found["strangers"], few=_FEWEST,
                )
            )  # fmt: skip
            return
        ways = {
            "loss": words("by its loss"),
            "likelihood_ratio": words("by {shadows} shadow models", shadows=found["shadows"]),
        }
        rows = [
            [f"{stage}, {how}", m[way]["auroc"], m[way]["advantage"], m[way]["found_at"]]
            for stage, m in found["models"].items()
            for way, how in ways.items()
            if way in m
        ]
        false = words("members found at {share:.1%} false", share=found["at"])
        yield Table([words("attack on"), named("auroc"), words("advantage"), false], rows)
        yield Note(
            words(
                "{members:,} rows that were trained on and {strangers:,} held-out ones; 0.5 of AUROC and 0 of advantage are"
                " what guessing gives.", members=found["members"], strangers=found["strangers"],
            )
        )  # fmt: skip
        yield Note(
            words("A stronger attacker may find more.") if found["shadows"] else
            words("A stronger attacker may find more; shadows: 16 measures one.")
        )  # fmt: skip

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        for told in found["models"].get(stage, {}).values():
            if (told["auroc"]["low"] or 0) > _LEAKS:
                yield words(
                    "Who asks {stage} can tell its training rows from others: AUROC {auroc} on {rows:,} rows.",
                    stage=stage, auroc=" ".join(interval(told["auroc"])), rows=found["members"] + found["strangers"],
                )  # fmt: skip
                return


def _confidences(model: Model, subject: Subject, rows: Tensor) -> Array:
    assert subject.target is not None
    outputs = predict(model, subject.dataset.inputs, rows, [subject.key])[subject.key]
    return confidence(
        tables.answers(subject.target, outputs), subject.dataset.tensors[subject.key][rows].numpy()
    )


def _apart(scores: Array, members: int, seed: int) -> dict[str, Any]:
    told = leakage(scores[:members], scores[members:], _FALSE, seed)
    return {name: interval._asdict() for name, interval in told.items()}
