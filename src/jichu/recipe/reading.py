"""How the language models of a run read texts that are asked about in an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jichu.auditing.parts import Reader
from jichu.data.batches import in_order
from jichu.data.dataset import Dataset
from jichu.data.ragged import Ragged
from jichu.data.special import TextInputs
from jichu.data.texts import TEXT
from jichu.data.tokenizer import Template, Tokenizer
from jichu.data.tokens import Tokens, tokenise
from jichu.models.generate import is_whole
from jichu.models.model import Model
from jichu.objectives.language import Answers, Causal, Language
from jichu.train.evaluate import token_nats

from .answers import answering, questions
from .config import ModelStage, PretrainStage, SupervisedStage
from .language import objective_of

_AT_ONCE, _ROWS = 2**13, 512  # tokens, and rows, that are read together


@dataclass(frozen=True)
class _Texts(Reader):
    """Of a model that goes on with texts: each alone, from its beginning, as far as the context goes."""

    objective: Causal
    tokenizer: Tokenizer
    context: int

    def nats(self, model: Model, texts: Mapping[str, Ragged]) -> list[np.ndarray]:
        tokens = Tokens(
            tokenise(texts[TEXT], self.tokenizer, None), template=Template(self._begin),
            context=self.context + self.objective.ahead,
        )  # fmt: skip
        return _nats(model, self.objective, {"tokens": tokens})

    def prompts(self, model: Model, texts: Ragged) -> list[list[int]]:
        ids = tokenise(texts, self.tokenizer, None)
        return [[*self._begin, *ids[row].tolist()] for row in range(len(ids))]

    @property
    def _begin(self) -> tuple[int, ...]:
        """What comes before a text, or else ends the one before it."""
        special = self.tokenizer.special
        first = special.begin if special.begin is not None else special.end
        return () if first is None else (first,)


@dataclass(frozen=True)
class _Answers(Reader):
    """Of a model that writes answers, or talks: of each row the answer, or what the assistant says."""

    dataset: Dataset
    tokenizer: Tokenizer
    inputs: TextInputs

    def nats(self, model: Model, texts: Mapping[str, Ragged]) -> list[np.ndarray]:
        asked = replace(self.dataset, texts=dict(texts), store=None)
        whole = is_whole(model.backbone)
        return _nats(model, Answers(), answering(asked, self.tokenizer, self.inputs.context, whole=whole))

    def prompts(self, model: Model, texts: Ragged) -> list[list[int]]:
        return questions(texts, model, self.tokenizer, self.inputs)


def _nats(model: Model, objective: Language, columns: dict[str, Any]) -> list[np.ndarray]:
    lengths = columns["tokens"].lengths
    order = lengths.argsort(descending=True, stable=True)
    found = token_nats(model, objective, in_order(columns, order, _ROWS, lengths, _AT_ONCE))
    return [
        each.numpy() for _, each in sorted(zip(order.tolist(), found, strict=True), key=lambda pair: pair[0])
    ]


def reader(
    stage: ModelStage, model: Model, dataset: Dataset, tokenizer: Tokenizer | None, inputs: TextInputs | None
) -> Reader | None:
    """How the model of a stage reads; None of one that does not write."""
    if tokenizer is None or inputs is None:
        return None
    if isinstance(stage, SupervisedStage):
        writes = any(target.task == "text" for target in dataset.targets.values())
        return _Answers(dataset, tokenizer, inputs) if writes else None
    assert isinstance(stage, PretrainStage)
    objective = objective_of(stage.objective, model, tokenizer, f"{stage.name}.objective")
    return _Texts(objective, tokenizer, inputs.context) if isinstance(objective, Causal) else None
