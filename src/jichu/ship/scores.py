"""How good the answers of a graph are, on held-out rows whose truth is known, and how much of that another one loses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.errors import DataError
from jichu.data.target import Target
from jichu.metrics.intervals import Interval, metric_interval

from .export.base import Arrays
from .figures import Figures
from .onnx_model import ask, session


@dataclass(frozen=True)
class Held:
    """Held-out rows in batches, what is true of them (as metrics want it, see `jichu.metrics.base`), which output of a
    graph tells it, and the metric that is chosen by."""

    batches: list[Arrays]
    output: str
    target: Target
    truth: np.ndarray
    name: str
    metric: Any

    def answers(self, graph: Path | bytes) -> np.ndarray:
        """What a graph says of each row, [N, K]: probabilities, or numbers."""
        opened = session(graph)
        found = np.concatenate([ask(opened, batch)[self.output] for batch in self.batches])
        return found.reshape(len(found), -1).astype(np.float64)

    def score(self, answers: np.ndarray) -> Interval:
        """The metric of answers. DataError where it says nothing on these rows."""
        found = metric_interval(self.metric, self.truth, self._scores(answers), block=self._block)
        if np.isnan(found.value):
            raise DataError(
                f"{self.name} says nothing of {len(self.truth):,} held-out rows like these",
                expected="rows of two classes at least, or another metric first in the recipe's audit",
            )
        return found

    def lost(self, before: np.ndarray, after: np.ndarray) -> Interval:
        """How much worse the one's answers are than the other's to the same rows, in points: hundredths of a share, or of
        a loss per cent of what it was."""
        sides, unit = [self._scores(before), self._scores(after)], 100.0
        if getattr(self.metric, "lower_is_better", False):
            value = abs(float(self.metric(self.truth, sides[0][0])))
            sides, unit = sides[::-1], 100 / max(value, 1e-12)
        found = metric_interval(self.metric, self.truth, sides[0], against=sides[1], block=self._block)
        return Interval(*(unit * end for end in found))

    def changed(self, before: np.ndarray, after: np.ndarray) -> float | None:
        """The share of rows that are answered otherwise; None of numbers, which hardly ever stay the same."""
        if self.target.task == "classification":
            return float((before.argmax(1) != after.argmax(1)).mean())
        if self.target.task == "multilabel":
            return float(((before > 0.5) != (after > 0.5)).any(1).mean())
        return None

    @property
    def _block(self) -> int:
        return self.target.steps or 1  # windows of a series overlap

    def _scores(self, answers: np.ndarray) -> np.ndarray:
        """[1, N, K]; of a number its prediction, [1, N]; of a forecast deviations."""
        if self.target.task == "regression":
            return answers[None, :, self.target.point]
        if self.target.task == "forecast":
            mean, std = (np.tile(v, self.target.steps) for v in (self.target.means, self.target.stds))
            return ((answers - mean) / std)[None]
        return answers[None]


@dataclass(frozen=True)
class Compared(Figures):
    """Two graphs on the same held-out rows: the metric of each, what the second loses in points, and the share of rows that
    it answers otherwise."""

    metric: str
    rows: int
    before: Interval
    after: Interval
    lost: Interval
    changed: float | None


def compare(held: Held, before: np.ndarray, after: np.ndarray) -> Compared:
    """Of the answers of two graphs. DataError where the metric says nothing on these rows."""
    return Compared(
        held.name, len(held.truth), held.score(before), held.score(after), held.lost(before, after),
        held.changed(before, after),
    )  # fmt: skip
