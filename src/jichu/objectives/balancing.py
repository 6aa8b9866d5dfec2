"""How much each of several losses counts, found while training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jichu.core.ranks import sum_over_ranks, world_size

from .base import Context

_ROUNDS = 20  # of a training, over which DWA compares its losses; in the paper a round is an epoch
_TEMPERATURE = 2.0


class Balance(nn.Module):
    """Factors [K] of K losses, and what has to be added to their sum."""

    def begin(self, losses: Tensor) -> None:
        """Told the losses [K] of a batch before training; 0 where none is known."""

    def factors(self) -> Tensor:
        """[K], positive."""
        raise NotImplementedError(f"{type(self).__name__}.factors")

    def penalty(self) -> Tensor | None:
        """A scalar, if any."""
        return None

    def after_step(self, losses: Tensor, context: Context) -> None:
        """Told the losses [K] of the step that was made, of this process's rows."""


class Uncertainty(Balance):
    """Each loss has a noise of its own, whose log-variance s is learned with the weights: exp(-s) / 2 × loss + s / 2,
    which is least where s is the loss's logarithm (Kendall, Gal and Cipolla, 2018, arXiv 1705.07115). It begins there,
    so that a loss of another magnitude is no worse off. (For classes the paper has exp(-s) × loss: at the best s that
    is the same factor.)"""

    def __init__(self, count: int):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(count))

    def begin(self, losses: Tensor) -> None:
        known = losses.isfinite() & (losses > 0)
        with torch.no_grad():
            self.log_variance.copy_(torch.where(known, losses, 1.0).log())

    def factors(self) -> Tensor:
        return (-self.log_variance).exp() / 2

    def penalty(self) -> Tensor:
        return self.log_variance.sum() / 2


class DynamicWeightAverage(Balance):
    """What falls slowly counts more: K × softmax(r / 2), r being the loss of the last round of steps over that of the
    one before (Liu, Johns and Davison, 2019, arXiv 1803.10704). No gradient is needed, nor a like magnitude made."""

    weights: Tensor
    sums: Tensor
    earlier: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("weights", torch.ones(count))
        self.register_buffer("sums", torch.zeros(count))  # of the losses in this round
        self.register_buffer("earlier", torch.zeros(count))  # those of the round before; 0 in the first

    def factors(self) -> Tensor:
        return self.weights

    @torch.no_grad()
    def after_step(self, losses: Tensor, context: Context) -> None:
        self.sums += sum_over_ranks(losses.float()) / world_size()
        if (context.step + 1) % max(1, context.steps // _ROUNDS):
            return
        falling = self.sums / self.earlier
        ready = (self.earlier > 0).all() & falling.isfinite().all()
        found = len(falling) * torch.softmax(falling / _TEMPERATURE, 0)
        self.weights.copy_(torch.where(ready, found, self.weights))
        self.earlier.copy_(self.sums)
        self.sums.zero_()


BALANCES = {"uncertainty": Uncertainty, "dwa": DynamicWeightAverage}
