"""A recipe of series."""

from __future__ import annotations

from collections.abc import Iterator

from .draft import Draft, epochs_of
from .lines import Key


class SeriesDraft(Draft):
    """Windows of series, whose next steps are told."""

    rows_are, result = "windows", "network"

    def split_hints(self) -> Iterator[str]:
        yield from ()

    def stages(self) -> list[list[Key]]:
        epochs = epochs_of(self.rows, 100_000, 3, 30)
        return [
            [("stage", "finetune", "the last season again: what is to be beaten"),
             ("name", "naive", ""),
             ("head", "seasonal-naive", "its period is found on the training rows")],
            [("stage", "finetune", "one linear map for all columns, estimated at once"),
             ("name", "linear", ""),
             ("head", "linear-forecast", "hard to beat")],
            [("stage", "finetune", "a transformer over patches of each column"),
             ("name", "network", ""),
             ("backbone", {"name": "patchtst", "width": 32}, "lstm, gru and mlp read all columns together"),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}, ""),
             *self.length(epochs, 4)],
            *self.audit("network", "naive"),
        ]  # fmt: skip
