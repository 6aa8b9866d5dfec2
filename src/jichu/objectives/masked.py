"""Masked language modelling (Devlin et al., 2018, arXiv 1810.04805)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.tokenizer import Tokenizer

from .base import Batch, Context
from .language import NOTHING, Language


class Masked(Language):
    """A share of the tokens is to be told from the others: of these 80% are masked, 10% another token drawn at
    random, 10% left as they are. Special tokens are never chosen.

    With `whole_words` all tokens of a word are chosen or none (Cui et al., 2019, arXiv 1906.08101, for
    Chinese); each is then masked, changed or left by itself.
    """

    tokens: Tensor
    special: Tensor
    starts_word: Tensor

    def __init__(
        self,
        tokenizer: Tokenizer,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.15,
        whole_words: bool = False,
    ):
        super().__init__()
        mask = tokenizer.special.mask
        if mask is None:
            raise UsageError(
                "this tokenizer has no token that masks", where="objective masked",
                expected="a tokenizer trained with special: bert, or objective causal",
            )  # fmt: skip
        self.mask, self.share, self.whole_words = mask, share, whole_words
        # of the vocabulary, not of the model: no part of a checkpoint
        self.register_buffer("special", tokenizer.is_special.clone(), persistent=False)
        self.register_buffer("tokens", (~tokenizer.is_special).nonzero()[:, 0], persistent=False)
        self.register_buffer("starts_word", tokenizer.starts_word.clone(), persistent=False)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        tokens, rows = batch["tokens"], batch["row"]
        inside = (tokens != NOTHING) & ~self.special[tokens.clamp(min=0)]
        draw = context.uniform(rows, tokens.shape[1], "masked")
        if self.whole_words:
            draw = draw.gather(1, self._first_of_word(tokens, inside))
        predicted = inside & (draw < self.share)
        what = context.uniform(rows, tokens.shape[1], "masked.what")
        drawn = context.uniform(rows, tokens.shape[1], "masked.token")
        other = self.tokens[(drawn * len(self.tokens)).long()]
        changed = torch.where(what < 0.8, self.mask, torch.where(what < 0.9, other, tokens))
        return {
            **batch,
            "tokens": torch.where(predicted, changed, tokens),
            "truth": tokens.masked_fill(~predicted, NOTHING),
            "predicted": predicted,
        }

    def _first_of_word(self, tokens: Tensor, inside: Tensor) -> Tensor:
        """The place [B, T] of the first token of each token's word."""
        place = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        after_special = ~inside.roll(1, 1)
        starts = ~inside | after_special | self.starts_word[tokens.clamp(min=0)]
        return place.where(starts, 0).cummax(1).values
