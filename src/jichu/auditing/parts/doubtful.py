"""The held-out rows that a model is least sure of: where a label is worth the most, or two classes are one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from jichu.auditing import figures
from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Note, Pictures, Records
from jichu.core.words import words
from jichu.data.target import Target
from jichu.metrics.base import Array

from .base import Look, Part, Subject


class Doubtful(Part):
    """The `count` most doubtful rows of each model: by the entropy of its probabilities, as a share of the largest there
    can be, or by the margin of the most probable class before the second, 1 being none (Settles, 2009, "Active learning
    literature survey"). Of the first draw."""

    title = "Most in doubt"
    tasks = ("classification",)

    def __init__(
        self,
        by: Literal["entropy", "margin"] = "entropy",
        count: Annotated[int, Field(ge=1, le=1000)] = 12,
    ):
        self.by, self.count = by, count

    def measure(self, subject: Subject) -> dict[str, Any]:
        stages = sorted(subject.fitted, key=subject.stages.index)
        return {"by": self.by, "models": {stage: {"rows": self._of(stage, subject)} for stage in stages}}

    def _of(self, stage: str, subject: Subject) -> list[dict[str, Any]]:
        rows, truth, (scores, *_) = tables.scores(subject.table, stage)
        doubts = doubt(scores, self.by)
        order = np.argsort(-doubts, kind="stable")  # what is no number comes last
        order = order[~np.isnan(doubts[order])]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :2]
        return [
            {
                "row": int(rows[i]), "record": subject.dataset.names[int(rows[i])], "truth": int(truth[i]),
                "classes": best[i].tolist(), "scores": scores[i, best[i]].tolist(), "doubt": float(doubts[i]),
            }
            for i in order[: self.count]
        ]  # fmt: skip

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        stage, told = next((stage, model["rows"]) for stage, model in found["models"].items())
        if target is None or not told:
            return
        yield Note(
            words(
                "The held-out rows that {stage} doubts most, by the entropy of its probabilities.",
                stage=stage,
            )
            if found["by"] == "entropy"
            else words(
                "The held-out rows that {stage} doubts most, by how near the second class comes to the first.",
                stage=stage,
            )
        )
        answers = [
            ", ".join(
                f"{target.classes[c]} ({s:.0%})" for c, s in zip(row["classes"], row["scores"], strict=True)
            )
            for row in told
        ]
        rows, truth = (
            torch.tensor([row["row"] for row in told]),
            [target.classes[row["truth"]] for row in told],
        )
        if look.pictures is not None:
            shown = [figures.data_uri(picture) for picture in look.pictures(rows)]
            beside = [
                words("is {truth} · {record}", truth=t, record=row["record"])
                for t, row in zip(truth, told, strict=True)
            ]
            yield Pictures(list(zip(shown, answers, beside, strict=True)))
            return
        says = look.words(rows) if look.words else [""] * len(told)
        called = [
            ": ".join(filter(None, (row["record"], said))) for row, said in zip(told, says, strict=True)
        ]
        doubts = [row["doubt"] for row in told]
        heads = [words("row"), words("is"), words("is taken for"), words("doubt")]
        yield Records(heads, list(zip(called, truth, answers, doubts, strict=True)))


def doubt(scores: Array, by: str) -> Array:
    """How doubtful probabilities [N, K] are, from 0 to 1; NaN where one is NaN, or there is one class."""
    if scores.shape[1] < 2:
        return np.full(len(scores), np.nan)
    if by == "margin":
        ordered = np.sort(scores, 1)
        return 1 - (ordered[:, -1] - ordered[:, -2])
    entropy = -(scores * np.log(np.where(scores > 0, scores, 1))).sum(1)
    return entropy / np.log(scores.shape[1])
