"""Mixup (Zhang et al., 2017): learn between examples."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from scipy.special import betaincinv

from jichu.data.augment import to_float

from .base import Batch, Context, Losses, Objective, as_terms
from .wrapper import Wrapper

_PARTNER, _SHARE = "mixup.partner", "mixup.share"


class Mixup(Wrapper):
    """Each input is blended with another of its batch, λ ~ Beta(alpha, alpha), and so is its loss:
    λ × the loss for its own target + (1 - λ) × the loss for the other's. λ multiplies the loss and
    not the weight; rows blend only with rows that have weight."""

    independent = False

    def __init__(self, inner: Objective, alpha: Annotated[float, Field(gt=0)] = 0.2, column: str = "image"):
        super().__init__(inner)
        self.alpha, self.column = alpha, column

    def prepare(self, batch: Batch, context: Context) -> Batch:
        batch = super().prepare(batch, context)
        rows = batch["row"]
        order = context.uniform(rows, 1, "mixup.order")[:, 0].argsort()
        partner = torch.empty_like(order).scatter_(0, order, order.roll(1))
        quantile = context.uniform(rows, 1, "mixup")[:, 0].double().cpu().numpy()
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, quantile)).float().to(rows.device)
        for weight in super().weights(batch).values():
            share = torch.where(weight[partner] > 0, share, 1.0)
        x = to_float(batch[self.column])
        lam = share.view(-1, *[1] * (x.ndim - 1))
        return {**batch, self.column: lam * x + (1 - lam) * x[partner], _PARTNER: partner, _SHARE: share}

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        own = as_terms(super().losses(outputs, batch))
        partner, share = batch[_PARTNER], batch[_SHARE]
        swapped = {
            name: value[partner]
            if name not in (self.column, "row") and value.shape[:1] == partner.shape
            else value
            for name, value in batch.items()
        }
        other = as_terms(super().losses(outputs, swapped))
        return {
            name: share * loss + (1 - share) * other[name] if loss.ndim else loss
            for name, loss in own.items()
        }
