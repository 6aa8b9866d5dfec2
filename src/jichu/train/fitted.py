"""What a training came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_LOWER_IS_BETTER = ("loss", "error", "rmse", "mae", "mse", "pinball", "brier")


def lower_is_better(metric: str) -> bool:
    """Whether smaller numbers of a metric are the better ones, by its name."""
    return any(word in metric for word in _LOWER_IS_BETTER)


@dataclass
class Fitted:
    """What a training came to. `history` holds the logged rows, `best` the best evaluation."""

    steps: int = 0
    rows: int = 0
    seconds: float = 0.0
    before: float = 0.0  # of these, those spent before the last resume
    trained: int = 0  # parameters that were, those of the objective among them
    stopped_early: bool = False
    best: dict[str, float] = field(default_factory=dict)
    since_best: int = 0  # evaluations
    utilisation: float | None = None  # FLOP/s in training, of those that a large matrix product reaches
    phases: dict[str, float] = field(default_factory=dict)  # seconds of data, forward, backward, …
    remarks: list[str] = field(default_factory=list)  # what went strangely, in words
    privacy: dict[str, float] = field(default_factory=dict)  # epsilon, delta, noise, clip and rate
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Training rows a second, evaluation and checkpoints included."""
        return self.rows / max(self.seconds, 1e-9)

    def told(self) -> dict[str, float]:
        """What trackers are told of it at its end."""
        found = {"steps": self.steps, "seconds": self.seconds, "samples_per_second": self.rows_per_second}
        return found | {f"best/{name}": value for name, value in self.best.items()}

    def shares(self) -> dict[str, float]:
        """The share of each phase in the time; `rest` is what no phase counts."""
        whole = max(self.seconds, sum(self.phases.values()), 1e-9)
        found = {name: spent / whole for name, spent in self.phases.items()}
        return {**found, "rest": 1 - sum(found.values())}
