"""Low rank: two thin layers in the place of a wide one."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from jichu.core.errors import UsageError
from jichu.models import low_rank as layers_of
from jichu.models.changes import LOW_RANK, mark

from .base import BACKBONE, Amount, Step, Subject, chosen


class LowRank(Step):
    """Dense layers and convolutions become two, between which there are `rank` numbers; or as many as keep the share
    `energy` of the sum of squares of the weights; or as few as make the layer smaller by the share `amount` (Denton et
    al., 2014, arXiv 1404.0736). Of all layers of a rank these are the nearest (Eckart and Young, 1936). A layer that
    would not be smaller stays as it is."""

    name = LOW_RANK
    structural = True

    def __init__(
        self,
        amount: Amount | None = None,
        rank: Annotated[int, Field(ge=1)] | None = None,
        energy: Amount | None = None,
        layers: str | None = None,
    ):
        given = [value for value in (amount, rank, energy) if value is not None]
        if len(given) != 1:
            raise UsageError(
                f"{len(given)} of amount, rank and energy are given", where=self.name, expected="one of them"
            )
        self.amount, self.rank, self.energy, self.layers = amount, rank, energy, layers

    def begin(self, subject: Subject) -> None:
        ranks: dict[str, int] = {}
        for name, layer in chosen(subject.model, self.layers, self.name).items():
            rank = self._rank(layer)
            if _smaller(layer, rank) and not _inside(name, subject.model):
                layers_of.replace(subject.model, name, layers_of.factored(layer, rank))
                ranks[name.removeprefix(BACKBONE)] = rank
        if not ranks:
            raise UsageError(
                "no layer would be smaller as two",
                where=self.name,
                expected="a larger amount, or a lower rank",
            )
        mark(subject.model.backbone)
        subject.config.changes = [*subject.config.changes, {"name": LOW_RANK, "ranks": ranks}]

    def _rank(self, layer: Any) -> int:
        weight = layers_of.matrix(layer).detach()
        if self.rank is not None:
            return self.rank
        if self.amount is not None:
            return max(1, int((1 - self.amount) * weight.numel() / sum(weight.shape)))
        energies = torch.linalg.svdvals(weight.double()).square().cumsum(0)
        return int((energies < self.energy * energies[-1]).sum()) + 1


def _smaller(layer: Any, rank: int) -> bool:
    weight = layers_of.matrix(layer)
    return rank * sum(weight.shape) < weight.numel()


def _inside(name: str, model: nn.Module) -> bool:
    """Whether a layer is one of two already."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), layers_of.LowRank)
