"""What is audited, and what a part of an audit is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from torch import Tensor

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Look
from jichu.auditing.kept import Kept
from jichu.core.progress import clock, say
from jichu.data.dataset import Dataset
from jichu.data.ragged import Ragged
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.models.model import Model
from jichu.train.predict import predict


class Reader(Protocol):
    """How a language model reads texts, which come by column as training rows have them: `text`, or beside it, as
    `label`, the answer."""

    def nats(self, model: Model, texts: Mapping[str, Ragged]) -> list[np.ndarray]:
        """Of each text minus the logarithm of the probability of every token that is predicted."""

    def prompts(self, model: Model, texts: Ragged) -> list[list[int]]:
        """The tokens after which the model goes on with each text, or answers it."""


@dataclass(frozen=True)
class Subject:
    """The models of a run, the rows that were held out, and what the models say of them."""

    dataset: Dataset
    rows: Tensor  # held out [N]
    key: str  # of the target
    target: Target | None  # with what the training rows say of it; of language the text itself
    table: pa.Table | None  # of predictions
    stages: tuple[str, ...]  # that have a model, the run's own first
    load: Callable[[str], Model]  # the model of a stage, in evaluation mode
    place: Callable[[str], Path]  # the folder of a stage's model
    seed: int
    trained_on: Tensor  # the rows, labelled where there is a target, of the first draw; none where other data are audited
    tokenizer: Tokenizer | None = None  # of texts
    # a stage once more, on these rows, by a number; or why not
    retrain: Callable[[str, Tensor, int], Model] | str = ""
    reads: Callable[[str], Reader | None] = lambda stage: None  # how a stage reads texts, if it writes such
    kept: Kept = Kept()  # noqa: RUF009 (holds nothing)

    @property
    def predicted(self) -> Target:
        """The target: a part that is for some tasks has one."""
        assert self.target is not None
        return self.target

    @property
    def fitted(self) -> list[str]:
        """The stages that predict."""
        return [] if self.table is None else list(dict.fromkeys(self.table["stage"].to_pylist()))

    def sample(self, most: int) -> Tensor:
        """Held-out rows whose target is known, evenly fewer where there are more than `most`."""
        told = self.key in self.dataset.targets  # else there is nothing to know of a row
        return evenly(self.rows[self.dataset.known(self.rows, self.key)] if told else self.rows, most)

    def trained_anew(
        self, stage: str, samples: Sequence[Tensor], tell: Callable[[Model, Tensor], Any], what: str
    ) -> list[Any]:
        """What `tell` gives of each of several models and their rows, a stage trained once more on each of these; what it
        gave is kept, and the model is not."""
        assert callable(self.retrain)
        retrain, found, started, trained = self.retrain, [], time.monotonic(), 0
        for number, rows in enumerate(samples):

            def train(number: int = number, rows: Tensor = rows) -> Any:
                nonlocal trained
                left = (time.monotonic() - started) / max(1, trained) * (len(samples) - number)
                say(
                    f"  {what}: model {number + 1} of {len(samples)}"
                    + (f", {clock(left)} left" if trained else "")
                )
                trained += 1
                return tell(retrain(stage, rows, number), rows)

            found.append(self.kept(train, what, stage, number, rows.numpy().tobytes()))
        return found

    @property
    def validation(self) -> Tensor:
        """The labelled rows that models were chosen by."""
        if "validation" not in self.dataset.splits:
            return self.rows[:0]
        rows = self.dataset.splits["validation"]
        return rows[self.dataset.known(rows, self.key)]

    def validated(self, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """Truth [n] and a stage's answers [n, K] of the validation rows."""
        return self.truth(self.validation), self.answers(self.load(stage), self.validation)

    def truth(self, rows: Tensor) -> np.ndarray:
        """The target of rows [n]."""
        return self.dataset.tensors[self.key][rows].numpy()

    def answers(self, model: Model, rows: Tensor, columns: dict[str, Any] | None = None) -> np.ndarray:
        """What a model says [n, K] of rows of the data set, or of other columns."""
        outputs = predict(model, self.dataset.inputs if columns is None else columns, rows, [self.key])
        return tables.answers(self.predicted, outputs[self.key])


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
