"""What is left of a model's accuracy where inputs are worse than those it was fitted to, without anybody's will."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.attacks.corruptions import CORRUPTIONS, STRENGTHS
from jichu.attacks.space import space
from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table
from jichu.core.errors import unknown
from jichu.core.names import resolve
from jichu.core.progress import task
from jichu.core.randomness import generator
from jichu.core.words import named, words
from jichu.data.augment import to_float
from jichu.data.batches import gather
from jichu.data.dataset import Dataset
from jichu.data.ragged import Ragged
from jichu.data.target import Target
from jichu.data.texts import TEXT, TEXT_2, ragged
from jichu.data.tokens import Tokens, corpus, tokenise
from jichu.metrics.intervals import mean_interval, share_interval
from jichu.models.model import Model

from .base import Look, Part, Subject

_AT_ONCE = 500  # rows that are corrupted together
Columns = dict[str, Any]
Array = np.ndarray


class Corruptions(Part):
    """Accuracy, or of numbers the mean absolute error, of held-out rows that are corrupted in five strengths: images by the
    fifteen ways of ImageNet-C, texts by typos and missing words, tables by noise, gaps and mixed cells, sounds by noise,
    speed and loudness. `only` names some of them."""

    title = "When the inputs are worse"
    tasks = ("classification", "regression")

    def __init__(
        self,
        rows: Annotated[int, Field(ge=1)] = 1000,
        only: Annotated[list[str], Field(min_length=1)] | None = None,
    ):
        self.rows, self.only = rows, only
        every = {name for names in CORRUPTIONS.values() for name in names}
        for name in only or []:
            if name not in every:
                raise unknown("corruption", name, every, where="parts.corruptions.only")

    def check(self, dataset: Dataset, target: Target | None) -> None:
        """All that are named are for these data, where there are any."""
        names = CORRUPTIONS.get(dataset.kind, {})
        for name in self.only or []:
            if names and name not in names:
                raise unknown(
                    f"corruption of inputs of the kind {dataset.kind}", name, names, where="parts.corruptions.only"
                )  # fmt: skip

    def measure(self, subject: Subject) -> dict[str, Any]:
        kind, rows = subject.dataset.kind, subject.sample(self.rows)
        names = {
            n: path for n, path in CORRUPTIONS.get(kind, {}).items() if self.only is None or n in self.only
        }
        about = {"rows": len(rows), "kind": kind, "metric": _METRICS[subject.predicted.task]}
        if not names or not len(rows):
            return about | {"models": {}}
        return about | {"models": {stage: self._of(stage, subject, rows, names) for stage in subject.fitted}}

    def _of(self, stage: str, subject: Subject, rows: Tensor, names: dict[str, str]) -> dict[str, Any]:
        model = subject.load(stage)
        found: dict[str, Any] = {"clean": _interval(_scores(model, subject, rows, None, 0), subject)}
        every = []
        with task(f"corruptions for {stage}", len(names) * len(STRENGTHS)) as shown:
            of: dict[str, list[dict[str, float]]] = {}
            for name, path in names.items():
                change: Any = resolve("corruption", path, {})
                of[name] = []
                for strength in STRENGTHS:
                    scores = _scores(model, subject, rows, change, strength)
                    of[name].append(_interval(scores, subject))
                    every.append(scores)
                    shown.advance(note=name)
        mean = mean_interval(np.stack(every).mean(0), seed=subject.seed)._asdict()
        return found | {"mean": mean, "corruptions": of}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models, metric = found["models"], named(found["metric"])
        if not models:
            yield Note(
                words("There are no corruptions for inputs of this kind, or none of those that were named.")
            )
            return
        yield Table(
            [metric, words("as they are"), words("corrupted, on average")],
            [[s, m["clean"], m["mean"]] for s, m in models.items()],
        )
        curves = {stage: _by_strength(m) for stage, m in models.items()}
        yield Figure(figures.strengths(curves, words("strength of corruption"), metric))
        for stage, m in models.items():
            yield Table(
                [words("{metric} of {stage}", metric=metric, stage=stage),
                 *(words("strength {strength}", strength=s) for s in STRENGTHS)],
                [[named(name), *each] for name, each in m["corruptions"].items()],
            )  # fmt: skip
        yield Note(
            words("{rows:,} held-out rows, each corrupted in every way and strength.", rows=found["rows"])
        )


_METRICS = {"classification": "accuracy", "regression": "mean absolute error"}


def _by_strength(found: dict[str, Any]) -> list[dict[str, float]]:
    """The mean over the ways, from strength 0 on; the ends are means of the ends."""
    ways = list(found["corruptions"].values())
    points = [{"at": 0, **found["clean"]}]
    for i, strength in enumerate(STRENGTHS):
        means = {key: float(np.mean([way[i][key] for way in ways])) for key in ("value", "low", "high")}
        points.append({"at": strength, **means})
    return points


def _interval(scores: Array, subject: Subject) -> dict[str, float]:
    if subject.predicted.task == "classification":
        return share_interval(int(scores.sum()), len(scores))._asdict()
    return mean_interval(scores, seed=subject.seed)._asdict()


def _scores(model: Model, subject: Subject, rows: Tensor, change: Any, strength: int) -> Array:
    """Whether each row [N] is right, or how far off its number is."""
    target, truth = subject.predicted, subject.truth(rows)
    told = _changed(model, subject, rows, change, strength) if strength else subject.answers(model, rows)
    if target.task == "classification":
        return ((told.argmax(1) == truth) & ~np.isnan(told).any(1)).astype(float)
    return np.abs(told[:, target.point] - truth)


def _changed(model: Model, subject: Subject, rows: Tensor, change: Any, strength: int) -> Array:
    """What the model says [N, K] of rows that are changed."""
    told = []
    for at, part in enumerate(rows.split(_AT_ONCE)):
        rng = generator(subject.seed, "corruptions", strength, at)
        columns = _columns(model, subject, part, functools.partial(change, strength=strength, rng=rng))
        told.append(subject.answers(model, torch.arange(len(part)), columns))
    return np.concatenate(told)


def _columns(model: Model, subject: Subject, rows: Tensor, change: Callable[[Any], Any]) -> Columns:
    """The inputs of some rows, changed."""
    dataset = subject.dataset
    batch: Columns = gather({n: t for n, t in dataset.inputs.items() if not isinstance(t, Tokens)}, rows)
    if dataset.kind == "text":
        return batch | {"tokens": _tokens(subject, rows, change)}
    if dataset.kind == "image":
        return batch | {"image": (change(to_float(batch["image"])) * 255).round().to(torch.uint8)}
    if dataset.kind == "audio":
        return batch | {"audio": change(to_float(batch["audio"]))}
    cells = {name: batch[name] for name in ("numbers", "categories") if name in batch}
    spread = space(model, batch).scale if "numbers" in cells else None
    if spread is not None:
        cells["numbers"] = cells["numbers"] / spread
    cells = change(cells)
    if spread is not None:
        cells["numbers"] = cells["numbers"] * spread
    return batch | cells


def _tokens(subject: Subject, rows: Tensor, change: Callable[[str], str]) -> Tokens:
    """Texts, changed, as the model reads them."""
    assert subject.tokenizer is not None
    texts: list[Ragged | None] = []
    for name in (TEXT, TEXT_2):
        if name in subject.dataset.texts:
            found = [change(text) for text in corpus(subject.dataset.texts[name], rows, 2**62)]
            texts.append(tokenise(ragged(found), subject.tokenizer, None))
    read: Any = subject.dataset.tensors["tokens"]
    return read.of_other(*texts)
