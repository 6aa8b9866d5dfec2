"""Texts as rows of tokens, one text after the other and without torch: what `jichu.data.tokens.Tokens` makes of many."""

from __future__ import annotations

import numpy as np

from jichu.data.special import TextInputs
from jichu.data.tokenizer import Tokenizer

Ids = list[int]


def laid_out(
    tokenizer: Tokenizer, inputs: TextInputs, columns: list[list[str]], width: int | None = None
) -> np.ndarray:
    """Texts, or pairs of texts, as int64 [N, T] with the template's tokens around them; -1 beyond a row's end. T is
    `width`, or that of the longest row."""
    parts = [tokenizer.encode(column) for column in columns]
    rows = [_row(tokenizer, inputs, list(row)) for row in zip(*parts, strict=True)]
    found = np.full((len(rows), width or max(map(len, rows))), -1, np.int64)
    for place, row in zip(found, rows, strict=True):
        place[: len(row)] = row
    return found


def _row(tokenizer: Tokenizer, inputs: TextInputs, texts: list[Ids]) -> Ids:
    before, between, after = tokenizer.template(inputs.pair)
    room = inputs.context - len(before) - len(between) - len(after)
    left = tokenizer.settings.get("truncation_side", "right") == "left"

    def cut(ids: Ids, most: int) -> Ids:
        return ids if len(ids) <= most else ids[-most:] if left and most else ids[:most]

    if inputs.pair:  # of the longer text first
        less = min(min(map(len, texts)), room // 2)
        longer = 0 if len(texts[0]) > len(texts[1]) else 1
        kept = [cut(ids, room - less if i == longer else less) for i, ids in enumerate(texts)]
        return [*before, *kept[0], *between, *kept[1], *after]
    ids = cut(texts[0], room * inputs.windows)
    windows = [[*before, *ids[at : at + room], *after] for at in range(0, max(1, len(ids)), room)]
    return [i for window in windows for i in window] or [_empty(tokenizer)]


def _empty(tokenizer: Tokenizer) -> int:
    special = tokenizer.special
    return next((i for i in (special.end, special.begin, special.unknown) if i is not None), 0)
