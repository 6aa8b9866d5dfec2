"""What is audited, and what a part of an audit is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from torch import Tensor

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block
from jichu.data.dataset import Dataset
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.models.model import Model
from jichu.train.predict import predict


@dataclass(frozen=True)
class Subject:
    """The models of a run, the rows that were held out, and what the models say of them."""

    dataset: Dataset
    rows: Tensor  # held out [N]
    key: str  # of the target
    target: Target | None  # with what the training rows say of it
    table: pa.Table | None  # of predictions
    stages: tuple[str, ...]  # that have a model, the run's own first
    load: Callable[[str], Model]  # the model of a stage, in evaluation mode
    place: Callable[[str], Path]  # the folder of a stage's model
    seed: int
    trained_on: Tensor  # labelled rows of the first draw, none where other data are audited
    tokenizer: Tokenizer | None = None  # of texts
    retrain: Callable[[str, Tensor, int], Model] | None = (
        None  # a stage once more, on these rows, by a number
    )

    @property
    def fitted(self) -> list[str]:
        """The stages that predict."""
        return [] if self.table is None else list(dict.fromkeys(self.table["stage"].to_pylist()))

    def sample(self, most: int) -> Tensor:
        """Held-out rows whose target is known, evenly fewer where there are more than `most`."""
        return evenly(self.rows[self.dataset.known(self.rows, self.key)], most)

    @property
    def validation(self) -> Tensor:
        """The labelled rows that models were chosen by."""
        if "validation" not in self.dataset.splits:
            return self.rows[:0]
        rows = self.dataset.splits["validation"]
        return rows[self.dataset.known(rows, self.key)]

    def validated(self, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """Truth [n] and a stage's answers [n, K] of the validation rows."""
        assert self.target is not None
        rows = self.validation
        outputs = predict(self.load(stage), self.dataset.inputs, rows, [self.key])[self.key]
        return self.dataset.tensors[self.key][rows].numpy(), tables.answers(self.target, outputs)


class Look(NamedTuple):
    """How rows can be shown: pictures uint8 [n, C, H, W] of some, what they are called with their classes, and what they say
    in words."""

    pictures: Callable[[Tensor], Tensor] | None = None
    records: Callable[[Tensor], tuple[list[str], list[int]]] | None = None
    words: Callable[[Tensor], list[str]] | None = None


class Part:
    """One question to the models of a run. A subclass is a file of `auditing/parts` and a line in its table of names; its
    keyword arguments are what a recipe may say of it."""

    title: str  # of its section in the report
    tasks: tuple[str, ...] = ()  # of targets that it is for; any, or none, if empty
    each_target = True  # asked of every target, else once

    def check(self, dataset: Dataset, target: Target | None) -> None:
        """UsageError where these data cannot be asked this."""

    def measure(self, subject: Subject) -> dict[str, Any]:
        """What is found, for `audit.json`."""
        raise NotImplementedError(f"{type(self).__name__}.measure")

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        """The same for people."""
        raise NotImplementedError

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        """What of it somebody who is about to use a stage's model has to know, a sentence each."""
        yield from ()
