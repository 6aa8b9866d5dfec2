"""Texts as bags of words: how often each token is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.special import Special

from .backbone import Backbone, Features

_ROWS = 10_000  # looked at together
_PRIME = 1_000_003


class Words(Backbone):
    """No network at all: the counts of a text's tokens, as sparse features [B, D].

    `tf-idf` multiplies them by ln((1 + N) / (1 + n)) + 1, n of N training rows having the token, and scales
    each row to length 1 (as scikit-learn does). With `ngrams` runs of up to so many tokens count too; they
    are hashed into `buckets`. Special tokens and padding count nothing.
    """

    counts = True  # what the heads are told: not negative, mostly zero, to be taken as it is
    idf: Tensor

    def __init__(
        self,
        vocabulary: int,
        special: Special | None = None,
        weighting: Literal["counts", "tf-idf"] = "counts",
        ngrams: Annotated[int, Field(ge=1, le=5)] = 1,
        buckets: Annotated[int, Field(ge=2, le=2**24)] | None = None,
    ):
        super().__init__()
        if ngrams > 1 and buckets is None:
            raise UsageError(
                "runs of tokens are hashed, and buckets is not given", expected="buckets: 65536, or so"
            )
        self.weighting, self.ngrams, self.buckets = weighting, ngrams, buckets
        self.skipped = sorted(
            {i for i in special or () if i is not None} - {getattr(special, "unknown", None)}
        )
        self.width = buckets or vocabulary
        self.register_buffer("idf", torch.ones(self.width))

    def forward(self, batch: dict[str, Tensor]) -> Features:
        if torch.compiler.is_exporting():  # other runtimes have nothing sparse
            return Features(self._dense(batch["tokens"]))
        counts = self._count(batch["tokens"])
        if self.weighting == "counts":
            return Features(counts)
        (row, column), values = counts.indices(), counts.values() * self.idf[counts.indices()[1]]
        length = values.new_zeros(len(counts)).index_add(0, row, values**2).sqrt()
        return Features(_sparse(row, column, values / length[row], counts.shape))

    def _runs(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each length the runs that begin at each place, [B, T], and whether all their tokens count."""
        counted = tokens >= 0
        for token in self.skipped:
            counted = counted & (tokens != token)
        runs, whole = tokens, counted
        for n in range(1, self.ngrams + 1):
            if n > 1:  # a run and the token after it
                runs = runs[:, :-1] * _PRIME + tokens[:, n - 1 :] + n
                whole = whole[:, :-1] & counted[:, n - 1 :]
            yield runs, whole

    def _dense(self, tokens: Tensor) -> Tensor:
        """The features [B, D] with all their zeros."""
        found = self.idf.new_zeros(tokens.shape[0], self.width)
        for runs, whole in self._runs(tokens):
            found = found.scatter_add(1, self._column(runs).clamp(min=0), whole.float())
        return found if self.weighting == "counts" else F.normalize(found * self.idf)

    def _count(self, tokens: Tensor) -> Tensor:
        """[B, D], sparse."""
        parts = []
        for runs, whole in self._runs(tokens):
            row, _ = whole.nonzero(as_tuple=True)
            parts.append(torch.stack([row, self._column(runs[whole])]))
        row, column = torch.cat(parts, 1)
        return _sparse(row, column, torch.ones(len(row), device=tokens.device), (len(tokens), self.width))

    def _column(self, keys: Tensor) -> Tensor:
        if self.buckets is None:
            return keys
        keys = keys * -7046029254386353131  # 2⁶⁴ over the golden ratio, modulo 2⁶⁴: near keys go far apart
        return (keys >> 20).remainder(self.buckets)

    @torch.no_grad()
    def estimate(self, tensors: dict[str, Any], rows: Tensor) -> None:
        """Set the weights of tokens from (training) rows of a data set."""
        if self.weighting == "counts":
            return
        holding = torch.zeros(self.width)
        for part in rows.split(_ROWS):
            counts = self._count(torch.as_tensor(tensors["tokens"].index_select(0, part)))
            holding += torch.bincount(counts.indices()[1], minlength=self.width)
        self.idf.copy_(((1 + len(rows)) / (1 + holding)).log() + 1)


def _sparse(row: Tensor, column: Tensor, values: Tensor, shape: Any) -> Tensor:
    return torch.sparse_coo_tensor(
        torch.stack([row, column]), values, tuple(shape), check_invariants=False
    ).coalesce()
