"""Canaries: made-up secrets planted among the training texts, to measure what a model gives away of what it read (Carlini et al.,
2019, "The Secret Sharer", arXiv 1802.08232)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.files import fingerprint
from jichu.core.randomness import generator

from .config import CanariesConfig
from .dataset import Dataset
from .ragged import Ragged
from .schema import LABEL, WEIGHT
from .source import UNLABELLED, Names
from .texts import TEXT, TEXT_2, ragged

_ROOM = 100  # names that there are for each that is needed


class Canary(NamedTuple):
    """A secret, what it is the secret of, and how often it was planted: 0 of those that never were."""

    name: str
    secret: str
    repeats: int


@dataclass(frozen=True)
class Canaries:
    """What was planted: rows from `start` on, each canary as often as it says."""

    config: CanariesConfig
    drawn: tuple[Canary, ...]
    start: int

    @property
    def space(self) -> int:
        """How many secrets there could be."""
        return len(self.config.letters) ** self.config.length

    @property
    def rows(self) -> int:
        """How many were planted, repetitions counted."""
        return sum(canary.repeats for canary in self.drawn)

    def secrets(self, most: int, *keys: object) -> list[str]:
        """All that there could be, or so many of them at random."""
        numbers = torch.arange(self.space) if self.space <= most else None
        return _spelled(numbers, self.config, most, *keys)

    def asked(self, name: str, secret: str) -> tuple[str, str]:
        """What stands before a secret, and the secret with what follows it; a blank before it is the secret's, as
        tokenizers have it."""
        before, after = self.config.format.split("{secret}")
        before = before.replace("{name}", name)
        prefix = before.rstrip()
        return prefix, before[len(prefix) :] + secret + after

    def texts(self, dataset: Dataset, canaries: Sequence[tuple[str, str]]) -> dict[str, Ragged]:
        """Names with secrets as rows of the data, by column: as texts, as conversations, or as questions with answers."""
        both = [self.asked(name, secret) for name, secret in canaries]
        if dataset.chat:
            turns = [[_said("user", one), _said("assistant", two.strip())] for one, two in both]
            return {TEXT: ragged([json.dumps(turn, ensure_ascii=False) for turn in turns])}
        if LABEL in dataset.texts:
            return {TEXT: ragged([one for one, _ in both]), LABEL: ragged([two.strip() for _, two in both])}
        return {TEXT: ragged([one + two for one, two in both])}

    def records(self) -> Iterator[dict[str, Any]]:
        """Each canary, for people."""
        for canary in self.drawn:
            text = "".join(self.asked(canary.name, canary.secret))
            yield {"text": text, "secret": canary.secret, "repeats": canary.repeats}

    def __str__(self) -> str:
        planted = sum(canary.repeats > 0 for canary in self.drawn)
        return f"{planted} made-up secrets in {self.rows:,} rows"


def plant(dataset: Dataset, config: CanariesConfig, seed: int) -> Dataset:
    """The data with canaries among the training rows, after all others. UsageError where the data are no texts, or have
    more columns than a canary has something for."""
    _refuse(dataset)
    canaries = Canaries(config, draw(config, seed), len(dataset))
    copies = [i for i, canary in enumerate(canaries.drawn) for _ in range(canary.repeats)]
    chosen = [canaries.drawn[i] for i in copies]
    planted = canaries.texts(dataset, [(canary.name, canary.secret) for canary in chosen])
    rows = torch.arange(len(copies)) + len(dataset)
    names = Names([f"canary {i}" for i in copies])
    unlike = fingerprint(dataset.fingerprint, config, seed)
    equal = np.arange(len(dataset)) if dataset.equal is None else dataset.equal
    return replace(
        dataset,
        tensors={name: _longer(column, len(copies)) for name, column in dataset.tensors.items()},
        texts={name: _joined(texts, planted[name]) for name, texts in dataset.texts.items()},
        names=Names.joined([dataset.names, names]),
        splits=dataset.splits | {"train": torch.cat([dataset.splits["train"], rows])},
        equal=np.concatenate([equal, equal.max() + 1 + np.array(copies)]),
        fingerprint=unlike,
        store=dataset.store and dataset.store / f"planted-{unlike}",
        canaries=canaries,
    )


def draw(config: CanariesConfig, seed: int) -> tuple[Canary, ...]:
    """As many for each number of repetitions, and as many that are never planted; no two of a name."""
    repeats = [n for n in (0, *config.repeats) for _ in range(config.count)]
    size = math.ceil(math.log(_ROOM * len(repeats), len(config.letters)))
    secrets = _spelled(None, config, len(repeats), seed, "secrets")
    named = config.model_copy(update={"length": size})
    names = list(dict.fromkeys(_spelled(None, named, 4 * len(repeats), seed, "names")))
    return tuple(Canary(*three) for three in zip(names, secrets, repeats, strict=False))


def _spelled(numbers: Tensor | None, config: CanariesConfig, most: int, *keys: object) -> list[str]:
    """Secrets by their numbers, or so many by lot."""
    letters, length = config.letters, config.length
    if numbers is None:
        codes = torch.randint(len(letters), (most, length), generator=generator("canaries", *keys))
    else:
        codes = numbers[:, None] // len(letters) ** torch.arange(length - 1, -1, -1) % len(letters)
    return ["".join(letters[code] for code in row) for row in codes.tolist()]


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _refuse(dataset: Dataset) -> None:
    where = "data.canaries"
    if dataset.kind != "text":
        raise UsageError(f"these data are no texts but a {dataset.kind}", where=where, expected="texts")
    if TEXT_2 in dataset.texts or dataset.table or dataset.aside or WEIGHT in dataset.tensors:
        raise UsageError(
            "canaries have a text and no more, and these data have further columns", where=where,
            expected="texts, conversations, or questions with answers",
        )  # fmt: skip


def _longer(column: Tensor, rows: int) -> Tensor:
    """With so many rows more of which nothing is known."""
    unknown = float("nan") if column.dtype.is_floating_point else UNLABELLED
    return torch.cat([column, torch.full((rows, *column.shape[1:]), unknown, dtype=column.dtype)])


def _joined(one: Ragged, two: Ragged) -> Ragged:
    return Ragged(
        torch.cat([one.values, two.values]), torch.cat([one.offsets, one.offsets[-1] + two.offsets[1:]])
    )
