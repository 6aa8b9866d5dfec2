"""Can somebody who asks the model tell which rows it was trained on?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing.blocks import Block, Note, Table, interval
from jichu.core.errors import UsageError
from jichu.core.randomness import generator
from jichu.core.words import named, retold, words
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.metrics.membership import confidence, leakage, likelihood_ratio, min_k
from jichu.models.model import Model

from .base import Look, Part, Subject

_FALSE = 0.001  # share of the strangers that may be taken for members
_FEWEST = 10
_LEAKS = 0.55  # AUROC above which the rows are told apart well enough to be told first of all
Array = np.ndarray


class Membership(Part):
    """Membership inference: rows that were trained on against held-out ones, told apart by the model's loss (Yeom et al.,
    2018); with `shadows`, of which it wants two and better sixteen, also by the likelihood ratio of as many models that are
    trained as the stage says on random parts of both (LiRA: Carlini et al., 2022). What writes texts is asked by the loss of
    their tokens, and of the least likely fifth of them (Shi et al., 2024). `rows` of each kind are asked about."""

    title = "Does it give its training rows away?"
    tasks = ("classification", "language", "text")

    def __init__(
        self, rows: Annotated[int, Field(ge=_FEWEST)] = 2000, shadows: Annotated[int, Field(ge=0, le=512)] = 0
    ):
        if shadows == 1:
            raise UsageError(
                "one shadow model has nothing to be compared with", where="parts.membership.shadows",
                expected="none, or two at least",
            )  # fmt: skip
        self.rows, self.shadows = rows, shadows

    def measure(self, subject: Subject) -> dict[str, Any]:
        members, strangers = (evenly(rows, self.rows) for rows in _both(subject))
        about: dict[str, Any] = {
            "members": len(members),
            "strangers": len(strangers),
            "shadows": self.shadows,
            "at": _FALSE,
        }
        if self.shadows and isinstance(subject.retrain, str):
            about |= {"shadows": 0, "refused": subject.retrain}
        if min(len(members), len(strangers)) < _FEWEST:
            return about | {"models": {}}
        of = self._of if subject.predicted.task == "classification" else _of_texts
        models = {stage: of(stage, subject, members, strangers) for stage in subject.fitted}
        return about | {"models": {stage: found for stage, found in models.items() if found}}

    def _of(self, stage: str, subject: Subject, members: Tensor, strangers: Tensor) -> dict[str, Any]:
        asked = torch.cat([members, strangers])
        mine = _confidences(subject.load(stage), subject, asked)
        found: dict[str, Any] = {"loss": _apart(mine, len(members), subject.seed)}
        if self.shadows and callable(subject.retrain):
            ratios = self._ratios(stage, subject, asked, mine)
            known = np.isfinite(ratios)
            is_member = np.arange(len(asked)) < len(members)
            one, two = ratios[known & is_member], ratios[known & ~is_member]
            found["told_apart"] = int(known.sum())  # rows that some shadow models had, and some had not
            if min(len(one), len(two)) >= _FEWEST:
                found["likelihood_ratio"] = _apart(np.concatenate([one, two]), len(one), subject.seed)
        return found

    def _ratios(self, stage: str, subject: Subject, asked: Tensor, mine: Array) -> Array:
        """By models trained on as many rows, drawn from members and strangers alike."""
        members, strangers = _both(subject)
        pool = torch.cat([members, strangers])
        draws = [generator(subject.seed, "shadow", shadow) for shadow in range(self.shadows)]
        samples = [
            pool[torch.randperm(len(pool), generator=draw)[: len(members)]].sort().values for draw in draws
        ]
        told = subject.trained_anew(
            stage, samples, lambda model, _: _confidences(model, subject, asked), f"shadows of {stage}"
        )
        inside = np.stack([torch.isin(asked, rows).numpy() for rows in samples])
        return likelihood_ratio(mine, np.array(told, np.float64), inside)

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if "refused" in found:
            yield Note(words("No shadow models could be trained: {why}.", why=retold(found["refused"])))
        few = min(found["members"], found["strangers"]) < _FEWEST
        if not found["models"]:
            yield Note(
                words("No model here writes texts, one token after the other.") if not few else
                words(
                    "There are {members:,} rows that the model was trained on here and {strangers:,} held out; {few} of each"
                    " are wanted.", members=found["members"], strangers=found["strangers"], few=_FEWEST,
                )
            )  # fmt: skip
            return
        ways = {
            "loss": words("by its loss"), "min_k": words("by its least likely tokens"),
            "likelihood_ratio": words("by {shadows} shadow models", shadows=found["shadows"]),
        }  # fmt: skip
        written = target is None or target.task != "classification"
        rows = [
            [f"{stage}, {how}", m[way]["auroc"], m[way]["advantage"], m[way]["found_at"]]
            for stage, m in found["models"].items()
            for way, how in ways.items()
            if way in m
        ]
        false = words("members found at {share:.1%} false", share=found["at"])
        yield Table([words("attack on"), named("auroc"), words("advantage"), false], rows)
        for stage, m in found["models"].items():
            if "told_apart" in m:
                yield Note(
                    words(
                        "Of {stage} {rows:,} rows are such that some shadow models were trained on them, and others were not.",
                        stage=stage, rows=m["told_apart"],
                    )
                )  # fmt: skip
        yield Note(
            words(
                "{members:,} rows that were trained on and {strangers:,} held-out ones; 0.5 of AUROC and 0 of advantage are"
                " what guessing gives.", members=found["members"], strangers=found["strangers"],
            )
        )  # fmt: skip
        yield Note(
            words("A stronger attacker may find more.") if found["shadows"] or "refused" in found or written else
            words("A stronger attacker may find more; shadows: 16 measures one.")
        )  # fmt: skip

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        for told in found["models"].get(stage, {}).values():
            if isinstance(told, dict) and (told["auroc"]["low"] or 0) > _LEAKS:
                yield words(
                    "Who asks {stage} can tell its training rows from others: AUROC {auroc} on {rows:,} rows.",
                    stage=stage, auroc=" ".join(interval(told["auroc"])), rows=found["members"] + found["strangers"],
                )  # fmt: skip
                return


def _of_texts(stage: str, subject: Subject, members: Tensor, strangers: Tensor) -> dict[str, Any]:
    """What is written in the rows, as far as a model's context goes; nothing of one that does not write."""
    if (how := subject.reads(stage)) is None:
        return {}
    asked = torch.cat([members, strangers])
    texts = {key: column.take(asked) for key, column in subject.dataset.texts.items()}
    nats = how.nats(subject.load(stage), texts)
    known, count = [len(text) > 0 for text in nats], len(members)  # of a long question the answer may be cut
    nats = [text for text, there in zip(nats, known, strict=True) if there]
    scores = {"loss": -np.array([text.mean() for text in nats]), "min_k": min_k(nats)}
    return {way: _apart(score, sum(known[:count]), subject.seed) for way, score in scores.items()}


def _both(subject: Subject) -> tuple[Tensor, Tensor]:
    """The rows that were trained on, and no more others: of a pool of both a shadow model has half, or more."""
    return subject.trained_on, subject.sample(len(subject.trained_on))


def _confidences(model: Model, subject: Subject, rows: Tensor) -> Array:
    return confidence(subject.answers(model, rows), subject.truth(rows))


def _apart(scores: Array, members: int, seed: int) -> dict[str, Any]:
    told = leakage(scores[:members], scores[members:], _FALSE, seed)
    return {name: interval._asdict() for name, interval in told.items()}
