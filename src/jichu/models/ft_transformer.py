"""FT-Transformer: a transformer over the columns of a table (Gorishniy et al., 2021, arXiv 2106.11959)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features
from .common import Depth, Rate, Width
from .tables import filled, require_columns


class Tokenizer(nn.Module):
    """One token for each column, after that of the whole row ([CLS]): [B, 1 + F + G, width].

    A number is x × weight + bias, with a learned vector in the place of x × weight where it is missing; a
    category is the vector of its code + bias. The vectors of what is missing, or was never seen, begin
    as zero: as long as training does not meet any, they say nothing.
    """

    start: Tensor

    def __init__(self, numbers: int, categories: list[int], width: int):
        super().__init__()

        def vectors(n: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(n, width).uniform_(-(width**-0.5), width**-0.5))

        self.whole = vectors(1)
        self.bias = vectors(numbers + len(categories))
        self.numbers = numbers
        if numbers:
            self.weight, self.missing = vectors(numbers), nn.Parameter(torch.zeros(numbers, width))
        self.codes = None
        if categories:
            # all columns in one table, each from its `start` on
            self.codes = nn.Embedding(sum(categories), width, _weight=vectors(sum(categories)).data)
            start = torch.tensor([0, *categories[:-1]]).cumsum(0)
            self.register_buffer("start", start, persistent=False)
            with torch.no_grad():
                self.codes.weight[start] = 0

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        parts = []
        if self.numbers:
            numbers = batch["numbers"][..., None]  # [B, F, 1]
            parts.append(torch.where(numbers.isnan(), self.missing, filled(numbers) * self.weight))
        if self.codes is not None:
            parts.append(self.codes(batch["categories"] + self.start))
        columns = torch.cat(parts, 1) + self.bias
        return torch.cat([self.whole.expand(columns.shape[0], 1, -1), columns], 1)


class Attention(nn.Module):
    """Self-attention with several heads, [B, T, D] to [B, T, D]."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.head_dim = width // heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)  # of the attention weights

    def forward(self, x: Tensor) -> Tensor:
        # [B, T, 3 D] → three of [B, heads, T, D / heads]
        query, key, value = self.project(x).unflatten(2, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        rate = self.dropout.p if self.dropout.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        return self.out(mixed.transpose(1, 2).flatten(2))


class ReGlu(nn.Module):
    """Dense layers to `hidden` and back, a gate between them (Shazeer, 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.widen = nn.Linear(width, 2 * hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.widen(x).chunk(2, -1)
        return self.narrow(self.dropout(value * F.relu(gate)))


class Block(nn.Module):
    """Attention, then a gated dense layer, each with a normalisation before it and a shortcut. The first
    block of a network does not normalise the tokens, as in the paper."""

    def __init__(
        self, width: int, heads: int, hidden: int, first: bool, attention: float, feed: float, residual: float
    ):
        super().__init__()
        self.norm1 = nn.Identity() if first else nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention)
        self.norm2 = nn.LayerNorm(width)
        self.feed = ReGlu(width, hidden, feed)
        self.dropout = nn.Dropout(residual)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.feed(self.norm2(x)))


class FtTransformer(Backbone):
    """`depth` blocks over one token for each column; the features are the token of the whole row,
    normalised and through ReLU. The defaults are the paper's for tables it did not tune."""

    def __init__(
        self,
        numbers: int = 0,
        categories: list[int] = [],  # noqa: B006 (read only)
        depth: Depth = 3,
        width: Width = 192,
        heads: Width = 8,
        feed_forward: Annotated[float, Field(gt=0)] = 4 / 3,
        attention_dropout: Rate = 0.2,
        feed_forward_dropout: Rate = 0.1,
        residual_dropout: Rate = 0.0,
    ):
        super().__init__()
        require_columns(numbers, categories)
        if width % heads:
            raise UsageError(f"a width of {width} with {heads} heads", expected="a multiple of the heads")
        self.width = width
        self.tokens = Tokenizer(numbers, categories, width)
        self.blocks = nn.Sequential(*(
            Block(width, heads, max(1, int(width * feed_forward)), i == 0, attention_dropout,
                  feed_forward_dropout, residual_dropout)
            for i in range(depth)
        ))  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        sequence = self.norm(self.blocks(self.tokens(batch)))
        return Features(F.relu(sequence[:, 0]), sequence=sequence)
