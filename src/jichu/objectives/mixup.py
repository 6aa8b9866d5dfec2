"""Mixup (Zhang et al., 2017): learn between examples."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from scipy.special import betaincinv
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.augment import to_float

from .base import Batch, Context, Losses, Objective, as_terms
from .wrapper import Wrapper


class Mixing(Wrapper):
    """Inputs made of two rows of a batch; a subclass says how.

    Of an input that is λ its own and 1 - λ another's, the loss is λ × the loss for its own target +
    (1 - λ) × the loss for the other's. λ multiplies the loss and not the weight; rows mix only with
    rows that have weight.
    """

    independent = False
    cached = False  # rows meet when they are prepared
    name: ClassVar[str]  # begins the names of what it adds to a batch: .partner [B] and .share [B]
    dimensions: ClassVar[int] = 2  # that an input has at least

    def __init__(self, inner: Objective, alpha: float, column: str):
        super().__init__(inner)
        self.alpha, self.column = alpha, column

    def mix(
        self, x: Tensor, other: Tensor, share: Tensor, batch: Batch, context: Context
    ) -> tuple[Tensor, Tensor]:
        """The mixed inputs, and the share [B] of each that is its own, given the share that was drawn."""
        raise NotImplementedError(f"{type(self).__name__}.mix")

    def prepare(self, batch: Batch, context: Context) -> Batch:
        batch = super().prepare(batch, context)
        if f"{self.name}.share" in batch:
            raise UsageError(f"{self.name} is wrapped in itself", expected=f"{self.name} once in `wrap`")
        rows = batch["row"]
        order = context.uniform(rows, 1, f"{self.name}.order")[:, 0].argsort()
        partner = torch.empty_like(order).scatter_(0, order, order.roll(1))
        quantile = context.uniform(rows, 1, self.name)[:, 0].double().cpu().numpy()
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, quantile)).float().to(rows.device)
        for weight in super().weights(batch).values():
            share = torch.where(weight[partner] > 0, share, 1.0)
        x = self._mixable(batch)
        mixed, share = self.mix(x, x[partner], share, batch, context)
        return {**batch, self.column: mixed, f"{self.name}.partner": partner, f"{self.name}.share": share}

    def _mixable(self, batch: Batch) -> Tensor:
        """What is mixed: bytes or numbers of enough dimensions, and no codes."""
        some = [
            name for name, x in batch.items()
            if x.ndim >= self.dimensions and (x.is_floating_point() or x.dtype == torch.uint8)
        ]  # fmt: skip
        if self.column not in some:
            raise UsageError(
                f"{self.name} mixes {self.column!r}, which these data do not have, or not as numbers",
                where="wrap", expected=f"column: {' or '.join(some)}" if some else f"no {self.name}",
            )  # fmt: skip
        return batch[self.column]

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        own = as_terms(super().losses(outputs, batch))
        partner, share = batch[f"{self.name}.partner"], batch[f"{self.name}.share"]
        swapped = {
            name: value[partner]
            if name not in (self.column, "row") and value.shape[:1] == partner.shape
            else value
            for name, value in batch.items()
        }
        place = partner.argsort()  # of each row among the swapped ones
        swapped |= {name: place[value] for name, value in swapped.items() if name.endswith(".partner")}
        other = as_terms(super().losses(outputs, swapped))
        return {
            name: share * loss + (1 - share) * other[name] if loss.ndim else loss
            for name, loss in own.items()
        }


class Mixup(Mixing):
    """Each input is blended with another of its batch, λ ~ Beta(alpha, alpha), and so is its loss."""

    name = "mixup"

    def __init__(self, inner: Objective, alpha: Annotated[float, Field(gt=0)] = 0.2, column: str = "image"):
        super().__init__(inner, alpha, column)

    def mix(
        self, x: Tensor, other: Tensor, share: Tensor, batch: Batch, context: Context
    ) -> tuple[Tensor, Tensor]:
        return torch.lerp(to_float(other), to_float(x), share.view(-1, *[1] * (x.ndim - 1))), share
