"""DINO (Caron et al., 2021, arXiv 2104.14294): a network sorts views as its own moving average does."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.core.ranks import sum_over_ranks, world_size
from jichu.data.augment import Augment

from .base import Batch, Context
from .contrastive import Temperature
from .taught import Momentum, Taught
from .views import Width, embed, mlp, pooled_width, views

_LOCAL = "local."
_WHOLE = 0.4  # share of the area from which a view is a whole one


def _half(images: Tensor) -> int:
    """Pixels a side of a close-up."""
    return max(4, images.shape[2] // 2)


class Prototypes(nn.Module):
    """Cosines [B, K] of embeddings [B, D] with K directions that are learnt."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(count, width))

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.linear(F.normalize(embeddings), F.normalize(self.directions))


class DINO(Taught):
    """Every view is to be given to the prototypes as the teacher gives the row's other whole views to them; `local`
    views show a small part of an image at half its size. That the teacher does not give all to one prototype, or
    equally to all, is seen to by centring and by a lower temperature."""

    centre: Tensor
    against_collapse = "lower the objective's teacher_temperature or optimizer.lr, or raise its momentum"

    def __init__(
        self,
        augment: Augment,
        local: Annotated[int, Field(ge=0, le=16)] = 4,
        local_crop: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        prototypes: Annotated[int, Field(ge=2)] = 1024,
        temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.04,
        momentum: Momentum = 0.99,
        centring: Momentum = 0.9,
        width: Width = 64,
        hidden: Width = 256,
    ):
        super().__init__(augment, 2, width, hidden, momentum)
        self.local, self.local_crop, self.prototypes = local, local_crop, prototypes
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.centring = centring
        self.register_buffer("centre", torch.zeros(prototypes))

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(
            mlp(features, self.hidden, self.width, layers=3), Prototypes(self.width, self.prototypes)
        )

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        self._refuse_sizes(model, batch)

    def _refuse_sizes(self, model: nn.Module, batch: Batch) -> None:
        """UsageError where the network cannot take the small views."""
        if not self.local or "image" not in batch:
            return
        side = _half(batch["image"])
        try:
            pooled_width(model, {**batch, "image": batch["image"][:, :, :side, :side].contiguous()})
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"this backbone cannot take close-ups of {side} pixels: {str(error).splitlines()[0]}",
                where="objective.local", expected="0, or a network that takes images of any size",
            ) from None  # fmt: skip

    def prepare(self, batch: Batch, context: Context) -> Batch:
        prepared = super().prepare(batch, context)
        if not self.local or "image" not in batch:
            return prepared
        least = self.augment.config.crop if self.augment.config.crop < 1 else _WHOLE
        close = self.augment.close_up(self.local_crop, max(least, self.local_crop), _half(batch["image"]))
        return {**prepared, **views(close, batch, context, self.local, "local", _LOCAL)}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Also cosines with the prototypes [B, V + L, K] of all views; targets are the teacher's [B, V, K]."""
        outputs = super().forward(model, batch)
        logits = [outputs["embeddings"]]
        if any(name.startswith(_LOCAL) for name in batch):
            logits.append(embed(model, self.projector, batch, _LOCAL)[1])
        return {**outputs, "cosines": torch.cat(logits, dim=1)}

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        targets = ((outputs["targets"] - self.centre) / self.teacher_temperature).softmax(2)
        assigned = (outputs["cosines"] / self.temperature).log_softmax(2)
        if self.training:
            mean = sum_over_ranks(outputs["targets"].detach().mean((0, 1))) / world_size()
            self.centre.lerp_(mean, 1 - self.centring)
        crossed = -torch.einsum("btk,bsk->bts", targets, assigned)
        whole, seen = crossed.shape[1:]
        other = ~torch.eye(whole, seen, dtype=torch.bool, device=crossed.device)  # not the same view
        return crossed[:, other].mean(1)
