"""How sure a model is, and whether it is right so often: errors of calibration, what mends them, and sets of answers that
hold the truth as often as was promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from jichu.auditing import figures
from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Figure, Note, Table, interval
from jichu.core.words import named, words
from jichu.data.target import Target
from jichu.metrics import calibration
from jichu.metrics.base import Metric
from jichu.metrics.classification import brier, log_loss
from jichu.metrics.intervals import mean_interval, metric_interval

from .base import Look, Part, Subject

_FEWEST = 20  # validation rows that a scaling is fitted on
_WORRYING = 0.05  # from which error on it is told first of all
Array = np.ndarray


class Calibration(Part):
    """Of classes the expected calibration error, by bins of equal width and of equal mass, and the Brier score; after a
    temperature, a vector or isotonic curves fitted on the validation rows; and conformal sets that hold the truth with
    probability `level`, as small as can be (`least`) or larger where a row is harder (`adaptive`). Of numbers intervals
    that do. What is fitted on validation rows, and measured, is of the first draw."""

    title = "How sure, and rightly so?"
    tasks = ("classification", "regression")

    def __init__(
        self,
        level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9,
        bins: Annotated[int, Field(ge=2, le=100)] = 15,
        sets: Literal["least", "adaptive"] = "least",
    ):
        self.level, self.bins, self.sets = level, bins, sets

    def measure(self, subject: Subject) -> dict[str, Any]:
        of = self._of_classes if subject.predicted.task == "classification" else self._of_numbers
        return {
            "level": self.level,
            "validation_rows": len(subject.validation),
            "rows": len(tables.scores(subject.table, subject.fitted[0])[0]),
            "models": {stage: of(stage, subject) for stage in subject.fitted},
        }

    def _of_classes(self, stage: str, subject: Subject) -> dict[str, Any]:
        _, truth, every = tables.scores(subject.table, stage)
        asked = {
            "ece": calibration.ece.bind(count=self.bins),
            "ece_equal_mass": calibration.ece.bind(count=self.bins, by="mass"),
            "brier": brier,
        }
        found: dict[str, Any] = _intervals(asked, truth, every, subject.seed)
        first = every[0]
        found["bins"] = _drawn(truth, first, self.bins)
        if len(subject.validation) < _FEWEST:
            return found
        theirs, scores = subject.validated(stage)
        shrink, value = calibration.temperature(theirs, scores)
        scaled: dict[str, Callable[[Array], Array]] = {
            "temperature": shrink,
            "vector": calibration.vector(theirs, scores),
            "isotonic": calibration.isotonic(theirs, scores),
        }
        also = {"ece": asked["ece"], "log_loss": log_loss}
        found["temperature"] = value
        found["scaled"] = {
            name: _intervals(also, truth, s(first)[None], subject.seed) for name, s in scaled.items()
        }
        found["bins_after"] = _drawn(truth, shrink(first), self.bins)
        held = calibration.sets(theirs, scores, self.level, self.sets)(first)
        found["sets"] = {
            "coverage": mean_interval(held[np.arange(len(truth)), truth], seed=subject.seed)._asdict(),
            "size": mean_interval(held.sum(1), seed=subject.seed)._asdict(),
            "empty": float((~held.any(1)).mean()),
        }
        return found

    def _of_numbers(self, stage: str, subject: Subject) -> dict[str, Any]:
        _, truth, _ = tables.scores(subject.table, stage)
        first = tables.predictions(subject.table, stage)[0]
        if len(subject.validation) < _FEWEST:
            return {}
        theirs, told = subject.validated(stage)
        half = calibration.threshold(np.abs(theirs - told[:, subject.predicted.point]), self.level)
        inside = np.abs(truth - first) <= half
        return {"half_width": half, "coverage": mean_interval(inside, seed=subject.seed)._asdict()}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models, share = found["models"], f"{found['level']:.0%}"
        few = found["validation_rows"] < _FEWEST
        if target is not None and target.task == "regression":
            if not few:
                heads = [
                    words("model"),
                    words("{share} lie within ±", share=share),
                    words("of the held-out rows did"),
                ]
                yield Table(heads, [[name, m["half_width"], m["coverage"]] for name, m in models.items()])
        else:
            yield from _of_bins(models)
            if not few:
                yield from _mended(models, share)
        about = {"validation": found["validation_rows"], "rows": found["rows"]}
        yield Note(
            words(
                "There are {validation:,} labelled validation rows, and {few} are wanted to mend this, and to promise anything:"
                " data.split.validation. Measured on {rows:,} held-out rows.", few=_FEWEST, **about,
            ) if few else
            words("Fitted on {validation:,} validation rows, measured on {rows:,} held-out ones, first draw.", **about)
        )  # fmt: skip

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        error = found["models"].get(stage, {}).get("ece")
        if error and (error["low"] or 0) > _WORRYING:
            yield words(
                "{stage} is not right as often as it is sure: the calibration error is {error}.",
                stage=stage, error=" ".join(interval(error)),
            )  # fmt: skip


def _of_bins(models: dict[str, Any]) -> Iterator[Block]:
    yield Table(
        [words("model"), words("calibration error"), words("in bins of equal mass"), named("brier")],
        [[name, m["ece"], m["ece_equal_mass"], m["brier"]] for name, m in models.items()],
    )
    for name, m in models.items():
        yield Figure(figures.reliability(name, m["bins"], m.get("bins_after")))


def _mended(models: dict[str, Any], share: str) -> Iterator[Block]:
    ways = list(next(iter(models.values()))["scaled"])
    yield Table(
        [words("calibration error after"), *map(named, ways), words("temperature found")],
        [[name, *(m["scaled"][way]["ece"] for way in ways), m["temperature"]] for name, m in models.items()],
    )
    yield Table(
        [words("sets of {share}", share=share), words("hold the truth"), words("classes in a set")],
        [[name, m["sets"]["coverage"], m["sets"]["size"]] for name, m in models.items()],
    )


def _intervals(asked: dict[str, Metric], truth: Array, scores: Array, seed: int) -> dict[str, Any]:
    return {name: metric_interval(m, truth, scores, seed=seed)._asdict() for name, m in asked.items()}


def _drawn(truth: Array, scores: Array, count: int) -> dict[str, list[float]]:
    return {
        name: values.tolist() for name, values in calibration.bins(truth, scores, count)._asdict().items()
    }
