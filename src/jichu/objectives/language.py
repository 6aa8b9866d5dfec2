"""Learning from texts by predicting their tokens: what all ways of it share, and the causal one."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from jichu.core.errors import UsageError

from .base import PRETRAINING, Batch, Context, Objective, row_weight

NOTHING = -1  # where there is no token


class Language(Objective):
    """A row's loss is the mean cross-entropy of its predicted tokens, and its weight their number.

    `prepare` makes `tokens` int64 [B, T], `predicted` bool and `truth` int64, [B, T] both (of the decoder's
    T' where there is one), -1 where nothing is predicted; the model gives as `tokens` the logits [n, V] at
    the predicted places alone, row by row. A row in which nothing is predicted has no weight.

    Windows of packed documents suit an objective if they hold `window(context)` tokens, `ahead` of them the
    next window's, and documents kept `apart` or not.
    """

    task = PRETRAINING
    kinds = ("text",)
    head: ClassVar[str] = "tokens"  # the output that it reads
    ahead: ClassVar[int] = 0
    apart: bool = True

    def window(self, context: int) -> int:
        """How many tokens of text fill a model that takes `context`."""
        return context

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": row_weight(batch) * batch["predicted"].sum(1)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        predicted = batch["predicted"]
        losses = F.cross_entropy(outputs[self.head].float(), batch["truth"][predicted], reduction="none")
        rows = torch.arange(len(predicted), device=predicted.device)[:, None].expand_as(predicted)[predicted]
        sums = torch.zeros(len(predicted), device=losses.device).index_add(0, rows, losses)
        return sums / predicted.sum(1).clamp(min=1)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Share of the tokens that are the most probable ones, and bits per token."""
        truth, logits = batch["truth"][batch["predicted"]], outputs[self.head].float()
        count = max(1, len(truth))
        return {
            "token_accuracy": (logits.argmax(1) == truth).sum() / count,
            "bits_per_token": F.cross_entropy(logits, truth, reduction="sum") / (count * math.log(2)),
        }


def shifted(batch: Batch) -> Batch:
    """What is read, `tokens`, and what is predicted from it, `truth`: the token that follows, where it is of
    the same document."""
    tokens, document = batch["tokens"], batch.get("document")
    if tokens.shape[1] < 2:  # nothing follows, and a model reads one token at least
        tokens = F.pad(tokens, (0, 1), value=NOTHING)
        document = None
    truth = tokens[:, 1:]
    made = {**batch, "tokens": tokens[:, :-1]}
    if document is not None:
        truth = truth.masked_fill(document[:, 1:] != document[:, :-1], NOTHING)
        made["document"] = document[:, :-1]
    return {**made, "truth": truth, "predicted": truth != NOTHING}


class Causal(Language):
    """Every token is predicted from those before it (Radford et al., 2018).

    Documents are kept `apart`: none sees another that stands before it in its window. Without that, as in
    GPT-2, no mask is needed, which is faster, and documents go on from one another."""

    ahead = 1

    def __init__(self, apart: bool = True):
        super().__init__()
        self.apart = apart

    def prepare(self, batch: Batch, context: Context) -> Batch:
        return shifted(batch)


class Answers(Language):
    """Sequence to sequence (Sutskever et al., 2014) and supervised fine-tuning (Ouyang et al., 2022): the
    loss is on what is to be written alone.

    Of an encoder-decoder that is `answer` [B, T'], which it writes after reading `tokens`; of a decoder the
    tokens where `answers` [B, T] is 1: prompt and answer, or a conversation, are one text.
    """

    task = "text"
    ahead = 1

    def prepare(self, batch: Batch, context: Context) -> Batch:
        if "answer" in batch:
            return {**batch, "truth": batch["answer"], "predicted": batch["answer"] != NOTHING}
        if "answers" not in batch:
            raise UsageError(
                "nothing says what is to be answered", where="objective answers",
                expected="data with prompts and answers, or conversations",
            )  # fmt: skip
        made = shifted(batch)
        answers = F.pad(batch["answers"], (0, max(0, 2 - batch["answers"].shape[1])))[:, 1:] == 1
        predicted = made["predicted"] & answers
        return {**made, "predicted": predicted, "truth": made["truth"].masked_fill(~predicted, NOTHING)}
