"""Barlow Twins (Zbontar et al., 2021, arXiv 2103.03230): redundancy reduction."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from jichu.core.ranks import gather_rows
from jichu.data.augment import Augment

from .base import Batch
from .views import JointEmbedding, Width

_EPSILON = 1e-5  # as batch normalisation has it


def cross_correlation(one: Tensor, two: Tensor) -> Tensor:
    """[D, D] between the columns of two embeddings [N, D], each normalised over the rows."""
    one, two = ((z - z.mean(0)) / (z.var(0, correction=0) + _EPSILON).sqrt() for z in (one, two))
    return one.T @ two / len(one)


class BarlowTwins(JointEmbedding):
    """The correlation between the columns of two views' embeddings is to be the identity: each column the same in
    both, and no two columns alike. Its terms are sums over columns, so no row has a loss of its own."""

    against_collapse = "raise the objective's weight of redundancy, or lower optimizer.lr"

    def __init__(
        self,
        augment: Augment,
        redundancy: Annotated[float, Field(ge=0)] = 0.005,
        width: Width = 256,
        hidden: Width = 256,
    ):
        super().__init__(augment, 2, width, hidden)
        self.redundancy = redundancy

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {}

    def scales(self) -> dict[str, float]:
        return {"redundancy": self.redundancy}

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        correlation = cross_correlation(*gather_rows(outputs["embeddings"]).unbind(1))
        diagonal = correlation.diagonal()
        return {
            "invariance": (1 - diagonal).square().sum(),
            "redundancy": correlation.square().sum() - diagonal.square().sum(),
        }
