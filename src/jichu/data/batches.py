"""Batches as a resumable iterator: a batch is a gather, its order a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.core.randomness import derive, generator, guarded, seed_step
from jichu.core.ranks import rank, world_size

from .lengths import alike
from .mapped import fetch

Batch = dict[str, Tensor]
_SORTED = 50  # batches whose rows are sorted by length together


class BatchSource(Protocol):
    """What the loop asks for: batches without end, and where it is in them."""

    def __next__(self) -> Batch: ...

    def __len__(self) -> int: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Batches:
    """Batches of `rows` of the tensors, epoch after epoch without end.

    With several processes each takes its share of every batch, so that the batches together are
    those of one process. `drop_last` leaves out an epoch's uneven last batch. With `lengths` [N] of all
    rows, a batch that is shuffled holds rows of like length, so that little is padded: the rows of 50
    batches at a time are sorted, and the batches shuffled again.
    """

    even = True  # whether batches are of one size, an epoch's last apart

    def __init__(
        self,
        tensors: dict[str, Tensor],
        rows: Tensor | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        lengths: Tensor | None = None,
    ):
        count = len(next(iter(tensors.values())))
        self.tensors = tensors
        self.rows = torch.arange(count) if rows is None else rows
        if not len(self.rows):
            raise UsageError("no rows to make batches of", expected="at least one")
        self.batch_size = min(batch_size, len(self.rows))
        self.seed, self.shuffle, self.drop_last, self.lengths = seed, shuffle, drop_last, lengths
        self.epoch, self.index = 0, 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def _shuffled(self) -> Tensor:
        if not self.shuffle:
            return self.rows
        draw = generator("order", self.seed, self.epoch)
        order = self.rows[torch.randperm(len(self.rows), generator=draw)]
        if self.lengths is None:
            return order
        # the uneven last batch stays as it is drawn: else it would always be of the longest rows
        whole = len(order) // self.batch_size * self.batch_size
        chunks = order[:whole].split(_SORTED * self.batch_size)
        alike = torch.cat([chunk[self.lengths[chunk].argsort(stable=True)] for chunk in chunks])
        batches = alike.view(-1, self.batch_size)
        return torch.cat([batches[torch.randperm(len(batches), generator=draw)].flatten(), order[whole:]])

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return gather(self.tensors, self.take())

    def take(self) -> Tensor:
        """The rows of the next batch."""
        start = self.index * self.batch_size
        rows = self._order[start : start + self.batch_size][rank() :: world_size()]
        self.index += 1
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0
            self._order = self._shuffled()
        return rows

    def like(self, length: float) -> Batch:
        """A batch of the rows whose `lengths` are nearest to one."""
        return gather(self.tensors, self.near(length))

    def near(self, length: float) -> Tensor:
        """The rows of a batch whose `lengths` are nearest to one."""
        assert self.lengths is not None
        nearest = (self.lengths[self.rows] - length).abs().argsort(stable=True)[: self.batch_size]
        return self.rows[nearest][rank() :: world_size()]

    def state_dict(self) -> dict[str, Any]:
        """The position of the next batch."""
        return {"epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position."""
        self.epoch, self.index = state["epoch"], state["index"]
        self._order = self._shuffled()


class MixedBatches(Batches):
    """`Batches` with rows of a second kind in each of them, `ratio` for one (fewer where there are not so many), in an
    order and with an epoch of their own; their uneven last batch is left out. An epoch is one of the first kind.

    The two are dealt evenly, so that micro-batches have both.
    """

    def __init__(
        self, tensors: dict[str, Tensor], rows: Tensor, others: Tensor, ratio: int, *,
        batch_size: int, seed: int = 0, lengths: Tensor | None = None,
    ):  # fmt: skip
        super().__init__(tensors, rows, batch_size=batch_size, seed=seed, lengths=lengths)
        size, own = ratio * self.batch_size, derive(seed, "others")
        self.others = Batches(tensors, others, batch_size=size, seed=own, drop_last=True, lengths=lengths)

    def take(self) -> Tensor:
        return dealt(super().take(), self.others.take())

    def near(self, length: float) -> Tensor:
        return dealt(super().near(length), self.others.near(length))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "others": self.others.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.others.load_state_dict(state["others"])


def dealt(one: Tensor, other: Tensor) -> Tensor:
    """Both [N] and [M] in one [N + M], each evenly spread."""
    place = torch.cat([(torch.arange(len(x)) + 0.5) / len(x) for x in (one, other)])
    return torch.cat([one, other])[place.argsort(stable=True)]


def gather(tensors: dict[str, Tensor], rows: Tensor) -> Batch:
    """The batch of some rows; `row` holds their numbers."""
    for tensor in tensors.values():
        fetch(tensor, rows)
    # index_select and not [rows], which is four times slower
    return {**{name: tensor.index_select(0, rows) for name, tensor in tensors.items()}, "row": rows}


def select(batch: Batch, kept: Tensor) -> Batch:
    """The rows of a batch that a mask [B] keeps; what has no rows stays."""
    rows = len(batch["row"])
    return {name: value[kept] if len(value) == rows else value for name, value in batch.items()}


def in_order(
    tensors: dict[str, Tensor], rows: Tensor, batch_size: int, lengths: Tensor | None = None, most: int = 0
) -> Iterator[Batch]:
    """One pass over the rows as they are, in batches, for prediction; with `lengths` [N], which fall from row
    to row, in more rows at once as these get shorter, `most` numbers at most, and those of alike lengths."""
    told = np.ones(len(rows)) if lengths is None else lengths[rows].numpy()
    for part in alike(told, batch_size, most if lengths is not None else None):
        yield gather(tensors, rows[part])


class IterableBatches:
    """A user's own iterable of dicts of tensors. It is gone through again when it ends, if it can be;
    each pass begins with the process's generator seeded, so that one that shuffles does so alike after
    a resume, which passes over the batches already seen. Rows are numbered within a pass, where there
    is no column `row`. With several processes it must give each process its own share."""

    def __init__(self, batches: Iterable[Batch], seed: int = 0):
        self._batches, self._seed = batches, seed
        self._seen = self._pass = self._rows = 0
        self._iterator: Iterator[Batch] = iter(())
        self._peeked: Batch | None = None

    def __len__(self) -> int:
        """Batches in an epoch, where the iterable knows it."""
        if not isinstance(self._batches, Sized):
            raise UsageError(
                "the batches do not say how many make an epoch", expected="a budget in steps or time"
            )
        return len(self._batches)

    def peek(self) -> Batch:
        """The next batch, which stays the next."""
        if self._peeked is None:
            self._peeked = next(self)
            self._seen -= 1
        return self._peeked

    def __next__(self) -> Batch:
        if self._peeked is not None:
            batch, self._peeked = self._peeked, None
            self._seen += 1
            return batch
        found = next(self._iterator, None)
        if found is None:
            found = self._begin()
        if not isinstance(found, dict):
            raise UsageError(
                f"a batch of type {type(found).__name__}", expected="a dict of tensors, {'image': …}"
            )
        self._seen += 1
        count = len(next(iter(found.values())))
        numbers, self._rows = torch.arange(self._rows, self._rows + count), self._rows + count
        return found if "row" in found else {**found, "row": numbers}

    def _begin(self) -> Batch:
        """The first batch of another pass."""
        with guarded(torch.device("cpu")):
            seed_step(torch.device("cpu"), self._seed, "pass", self._pass)
            again = iter(self._batches)
            first = next(again, None)
        if first is None:
            raise UsageError(
                f"the batches ended after {self._seen}",
                expected="an iterable that can be gone through again, such as a list, or fewer steps",
            )
        self._iterator, self._pass, self._rows = again, self._pass + 1, 0
        return first

    def state_dict(self) -> dict[str, Any]:
        """How many batches were taken."""
        return {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Pass over batches until as many were taken."""
        while self._seen < state["seen"]:
            next(self)


def as_source(batches: Any, seed: int = 0) -> BatchSource:
    """A `BatchSource` as it is; any other iterable wrapped."""
    if all(hasattr(batches, name) for name in ("__next__", "state_dict", "load_state_dict")):
        return batches
    return IterableBatches(batches, seed)


def typical(source: BatchSource) -> Batch:
    """A batch by which to judge the others: of rows of mean length, where they differ, else the next."""
    if isinstance(source, Batches) and source.lengths is not None:
        return source.like(float(source.lengths[source.rows].float().mean()))
    return peek(source)


def largest(source: BatchSource) -> Batch:
    """A batch that needs as much memory as any: of the longest rows, where lengths differ, else the next."""
    if isinstance(source, Batches) and source.lengths is not None:
        return source.like(float(source.lengths[source.rows].max()))
    return peek(source)


def peek(source: BatchSource) -> Batch:
    """The next batch, which stays the next."""
    if isinstance(source, IterableBatches):
        return source.peek()
    if isinstance(source, Batches) and not source.even:
        return gather(source.tensors, source.rows[: source.batch_size])
    state = source.state_dict()
    batch = next(source)
    source.load_state_dict(state)
    return batch
