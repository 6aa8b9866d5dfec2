"""What is exported, and what a format does with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from jichu.data.tokenizer import Tokenizer
from jichu.models.folder import ModelConfig
from jichu.models.model import Model

from ..signature import Signature

Batch = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


@dataclass
class Subject:
    """A model in evaluation mode, what it reads and says, and real inputs of it in several batches."""

    model: Model
    config: ModelConfig
    signature: Signature
    tokenizer: Tokenizer | None
    batches: list[Batch]


class Runtime(Protocol):
    """An exported model, run by a program that is not the one that made it."""

    def __call__(self, batch: Batch) -> Arrays:
        """The outputs by name, as `program.reference` gives them."""

    def layers(self, batch: Batch) -> Arrays:
        """What layers give, by the names they have in the model, as far as they are still there."""


class Format(Protocol):
    """One kind of file or folder."""

    ending: str  # of the name of what is written; a folder where it is empty

    def write(self, subject: Subject, path: Path) -> None:
        """Write it. UsageError where the format has no words for this model: which part, and what has."""

    def read(self, path: Path, subject: Subject) -> Runtime:
        """Read what was written, from the file alone; of the subject only what a user of the file knows too: what a head
        is for."""
