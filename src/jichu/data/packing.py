"""Documents as one stream of tokens, cut into windows of one length: nothing is padded, nothing is lost."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.randomness import generator
from jichu.core.ranks import rank, world_size

from .batches import Batch
from .ragged import Ragged


class Packed:
    """Batches of windows of `context` tokens, epoch after epoch without end.

    Each epoch puts the documents `rows`, each between its `begin` and `end` token, into a new order, joins
    them to a ring, cuts it from a random place on into windows, and shuffles these: every token is in one
    window, at another place each time. A batch holds `tokens` int64 [B, context + ahead]: the last `ahead`
    tokens of a window are the first of the next, so that a causal model predicts every token once. The one
    window that is not full has -1 beyond its end.

    `document` [B, context + ahead] numbers the documents within each window, so that they can be kept
    `apart`; it is there where a window of the batch holds more than one. `row` [B] is the place of a
    window's first token if all documents stood one after the other with their begin and end tokens: unique
    within an epoch; `document_of` leads back.

    Eight bytes a document and as many a window are held; the tokens may be mapped from a file. With several
    processes each takes its share of every batch.
    """

    def __init__(
        self, tokens: Ragged, rows: Tensor | None = None, *, context: int, batch_size: int, seed: int = 0,
        end: int | None, begin: int | None = None, apart: bool = True, shuffle: bool = True, ahead: int = 1,
    ):  # fmt: skip
        rows = torch.arange(len(tokens)) if rows is None else rows
        self.tokens, self.rows = tokens, rows[tokens.lengths[rows] > 0]
        self.begin, self.end = begin, end
        self._around = (begin is not None) + (end is not None)  # tokens that each document has besides
        self.total = int((tokens.lengths[self.rows] + self._around).sum())
        if not self.total:
            raise UsageError("no tokens to make windows of", expected="a document that is not empty")
        self.context, self.ahead, self.apart = context, ahead, apart
        self.windows = -(-self.total // context)
        self.batch_size = min(batch_size, self.windows)
        self.seed, self.shuffle = seed, shuffle
        self.epoch = self.index = 0
        self._arrange()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.windows // self.batch_size)

    @property
    def tokens_a_batch(self) -> int:
        """Tokens by which a batch goes on in the corpus."""
        return self.batch_size * self.context

    def _arrange(self) -> None:
        """The epoch's ring of documents, where it is cut, and the order of the windows."""
        self._order, self._turn, self._windows = self.rows, 0, torch.arange(self.windows)
        if self.shuffle:
            draw = generator("packing", self.seed, self.epoch)
            self._order = self.rows[torch.randperm(len(self.rows), generator=draw)]
            self._turn = int(torch.randint(self.total, (), generator=draw))
            self._windows = torch.randperm(self.windows, generator=draw)
        self._starts = (self.tokens.lengths[self._order] + self._around).cumsum(0).roll(1)
        self._starts[0] = 0  # in its place stood the total

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        start = self.index * self.batch_size
        mine = self._windows[start : start + self.batch_size][rank() :: world_size()]
        batch = self._batch(mine)
        self.index += 1
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0
            self._arrange()
        return batch

    def _batch(self, windows: Tensor) -> Batch:
        at = windows[:, None] * self.context + torch.arange(self.context + self.ahead)
        inside = at < self.total + self.ahead
        at = (at + self._turn) % self.total
        document = torch.searchsorted(self._starts, at, right=True) - 1  # in this epoch's order
        within = at - self._starts[document]
        row = self._order[document]
        begins, length = self.tokens.offsets[row], self.tokens.lengths[row] + self._around
        source = begins + within - int(self.begin is not None)
        tokens = self.tokens.values[source.clamp(0, len(self.tokens.values) - 1)].long()
        if self.begin is not None:
            tokens[within == 0] = self.begin
        if self.end is not None:
            tokens[within == length - 1] = self.end
        tokens[~inside] = -1
        batch = {"tokens": tokens, "row": (begins + row * self._around + within)[:, 0]}
        starts = (within == 0) & inside
        starts[:, :1] = False
        if self.apart and bool(starts.any()):
            batch["document"] = starts.cumsum(1)
        return batch

    def document_of(self, row: int) -> int:
        """The document (its number in `tokens`) in which the window `row` of a batch begins."""
        offsets, around = self.tokens.offsets, self._around
        places = range(len(self.tokens))
        return bisect.bisect_right(places, row, key=lambda i: int(offsets[i]) + i * around) - 1

    def state_dict(self) -> dict[str, Any]:
        """The position of the next batch."""
        return {"epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position."""
        self.epoch, self.index = state["epoch"], state["index"]
        self._arrange()
