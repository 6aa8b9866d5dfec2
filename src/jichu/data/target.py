"""What is to be predicted, and what the training rows say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "multilabel", "regression", "forecast", "text", "language"]


@dataclass(frozen=True)
class Target:
    """A column to predict.

    Its tensor is, by task: classification int64 codes [N], -1 where unknown; multilabel float32 [N, K]
    of 0 and 1, NaN where unknown; regression float32 [N], NaN where unknown; forecast float32 [N, steps, columns], NaN where
    unknown. A text has none: it stands in
    `Dataset.texts`, empty where unknown; and `language` is no column at all but the texts that are read, token
    after token. `counts` are the labelled
    training rows of each class, `mean` and `std` those of a number: a network learns it in units of
    `std` around `mean`.
    The logits of classes are divided by `temperature` before they become probabilities.
    """

    column: str
    task: Task
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    rows: int = 0  # labelled training rows
    mean: float = 0.0
    std: float = 1.0
    quantiles: tuple[float, ...] = ()  # what the outputs of a regression are; none: the value itself
    temperature: float = 1.0
    # of a forecast: the columns, how many steps, and mean and deviation of each column
    series: tuple[str, ...] = ()
    steps: int = 0
    means: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers a head gives for it."""
        return self.steps * len(self.series) or len(self.classes) or len(self.quantiles) or 1

    @property
    def point(self) -> int:
        """Which of a number's quantiles is the prediction: the one nearest to the middle."""
        levels = self.quantiles or (0.5,)
        return min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
