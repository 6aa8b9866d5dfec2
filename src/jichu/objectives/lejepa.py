"""LeJEPA (Balestriero and LeCun, 2025, arXiv 2511.08544): views agree, and embeddings are a standard normal cloud."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from jichu.core.ranks import gather_rows
from jichu.data.augment import Augment

from .base import Batch, row_weight
from .views import JointEmbedding, Width

_REACH, _KNOTS = 3.0, 17  # of the integral over frequencies, as in the reference


def epps_pulley(values: Tensor) -> Tensor:
    """How far samples [..., N, S] are from standard normal in each of S columns: N times the integral over t of
    |their characteristic function - exp(-t²/2)|² exp(-t²/2) (Epps and Pulley, 1983), by the trapezoidal rule."""
    t = torch.linspace(0, _REACH, _KNOTS, device=values.device, dtype=values.dtype)
    wanted = (-t.square() / 2).exp()
    phase = values[..., None] * t
    error = (phase.cos().mean(-3) - wanted).square() + phase.sin().mean(-3).square()
    return 2 * values.shape[-2] * torch.trapezoid(error * wanted, t, dim=-1)  # it is even in t


class LeJEPA(JointEmbedding):
    """Each view's embedding is near the mean of its row's, and along random directions drawn anew at each step
    (`slices`) the embeddings are normally distributed. It needs neither teacher nor negatives; `share` is the weight
    of the second."""

    against_collapse = "raise the objective's share, or lower optimizer.lr"

    def __init__(
        self,
        augment: Augment,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.05,
        slices: Annotated[int, Field(ge=1)] = 256,
        views: Annotated[int, Field(ge=2)] = 2,
        width: Width = 64,
        hidden: Width = 256,
    ):
        super().__init__(augment, views, width, hidden)
        self.share, self.slices = share, slices

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {"invariance": row_weight(batch)}

    def scales(self) -> dict[str, float]:
        return {"invariance": 1 - self.share, "normality": self.share}

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        z = outputs["embeddings"]
        # drawn from the generator of the step, so that a resumed training draws the same
        directions = F.normalize(torch.randn(z.shape[2], self.slices, device=z.device, dtype=z.dtype), dim=0)
        everyone = gather_rows(z).transpose(0, 1)
        return {
            "invariance": (z - z.mean(1, keepdim=True)).square().mean((1, 2)),
            "normality": epps_pulley(everyone @ directions).mean(),
        }
