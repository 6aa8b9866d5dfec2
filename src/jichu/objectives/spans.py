"""Span corruption, as T5 was trained (Raffel et al., 2019, arXiv 1910.10683)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.tokenizer import Tokenizer

from .base import Batch, Context
from .language import NOTHING, Language

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Spans(Language):
    """Spans of tokens are taken out of a text, each replaced by a sentinel of its own; the decoder writes
    every sentinel followed by what stood there, and the end.

    `density` of a row's tokens is taken, in spans of `length` tokens in the mean. How many tokens and how
    many spans is fixed by how long the row is, where they are is random: of windows of one length all
    inputs are of one length, and all answers.
    """

    apart = False  # as there: a text may go on with the next
    sentinels: Tensor

    def __init__(
        self, tokenizer: Tokenizer, density: Fraction = 0.15, length: Annotated[float, Field(ge=1)] = 3.0
    ):
        super().__init__()
        end = tokenizer.special.end
        if end is None or not tokenizer.sentinels:
            raise UsageError(
                "this tokenizer has no sentinels, which stand for what is taken out", where="objective spans",
                expected="a tokenizer trained with special: t5",
            )  # fmt: skip
        self.end, self.density, self.length = end, density, length
        self.register_buffer("sentinels", torch.tensor(tokenizer.sentinels), persistent=False)

    def sizes(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of rows of so many tokens [B], how many are taken out and in how many spans; none of fewer than 2."""
        taken = (tokens * self.density).round().long().clamp(min=1).minimum(tokens - 1).clamp(min=0)
        spans = (taken / self.length).round().long().clamp(min=1, max=len(self.sentinels))
        return taken, spans.minimum(taken).minimum(tokens - taken)

    def window(self, context: int) -> int:
        tokens = torch.arange(1, 4 * context)
        taken, spans = self.sizes(tokens)
        fits = tokens - taken + spans + 1 <= context  # with the end
        return int(tokens[fits].max()) if fits.any() else context

    def prepare(self, batch: Batch, context: Context) -> Batch:
        tokens, rows = batch["tokens"], batch["row"]
        inside = tokens != NOTHING
        count = inside.sum(1)
        taken, spans = self.sizes(count)
        draw = context.uniform(rows, 2 * tokens.shape[1], "spans")
        out = self._lengths(taken, spans, draw[:, ::2])
        kept = self._lengths(count - taken, spans, draw[:, 1::2])
        # the row is in turn kept and taken out; counted where either begins, which of what is absent is beyond
        # the end
        borders = torch.stack([kept, out], 2).flatten(1).cumsum(1)[:, :-1]
        flags = torch.zeros(len(tokens), tokens.shape[1] + 1, dtype=torch.int64, device=tokens.device)
        part = flags.scatter_add(1, borders, torch.ones_like(borders))[:, :-1].cumsum(1)
        lost = inside & (part % 2 == 1)
        begins = lost & (part != part.roll(1, 1))
        sentinel = self.sentinels[(part // 2).clamp(max=len(self.sentinels) - 1)]
        marked = torch.where(begins, sentinel, tokens)
        answer = _joined([(begins, sentinel), (lost, tokens)], self.end, spans > 0)
        return {
            **{name: value for name, value in batch.items() if name != "document"},
            "tokens": _joined([((inside & ~lost) | begins, marked)], self.end, count > 0),
            "answer": answer,
            "truth": answer,
            "predicted": answer != NOTHING,
        }

    def _lengths(self, total: Tensor, parts: Tensor, draw: Tensor) -> Tensor:
        """Lengths [B, K] of the parts that so many things [B] are cut into at random, none of them empty, all
        ways of cutting alike; 0 beyond a row's parts. The draws are [B, T]."""
        place = torch.arange(draw.shape[1], device=draw.device)
        # the cuts are before the places 1 … total - 1 whose draws are the smallest
        draw = draw.masked_fill((place == 0) | (place >= total[:, None]), 2.0)
        ranked = draw.sort(1).values
        last = ranked.gather(1, (parts - 2).clamp(min=0)[:, None])
        cuts = (draw <= last) & (parts > 1)[:, None]
        part = cuts.cumsum(1)
        most = max(1, int(parts.max()) if len(parts) else 1)
        lengths = torch.zeros(len(draw), most, dtype=torch.int64, device=draw.device)
        within = (place < total[:, None]).long()
        return lengths.scatter_add(1, part.clamp(max=most - 1), within)


def _joined(layers: list[tuple[Tensor, Tensor]], end: int, ends: Tensor) -> Tensor:
    """What the masks [B, T] keep of the values [B, T], place by place and layer by layer, without gaps, and
    the end; -1 beyond."""
    keep = torch.stack([mask for mask, _ in layers], 2).flatten(1)
    values = torch.stack([value for _, value in layers], 2).flatten(1)
    count = keep.sum(1)
    width = max(1, int((count + ends).max())) if len(keep) else 1
    found = torch.full((len(keep), width + 1), NOTHING, device=values.device)
    # what is not kept goes to a column that is then cut off
    found = found.scatter(1, (keep.cumsum(1) - 1).where(keep, width), values)
    found = found.scatter(1, count.where(ends, width)[:, None], end)
    return found[:, :width]
