"""What an attack raises: each gives [B] from logits [B, K] and the true classes [B]."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
_TINY = 1e-12


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """The loss that the model was probably trained by."""
    return F.cross_entropy(logits, truth, reduction="none")


def margin(logits: Tensor, truth: Tensor) -> Tensor:
    """By how much the best wrong class is above the true one; the row is fooled where it is over 0."""
    true = logits.gather(1, truth[:, None])[:, 0]
    return logits.scatter(1, truth[:, None], -torch.inf).amax(1) - true


def difference_of_logits_ratio(logits: Tensor, truth: Tensor) -> Tensor:
    """The margin in units of the distance from the first to the third logit: no scale of the logits hides it (Croce and
    Hein, 2020). Of two classes it is the margin."""
    if logits.shape[1] < 3:
        return margin(logits, truth)
    ordered = logits.sort(1, descending=True).values
    return margin(logits, truth) / (ordered[:, 0] - ordered[:, 2] + _TINY)


def towards(target: Tensor) -> Loss:
    """The ratio for one wrong class [B] (four classes at least, else the margin over it)."""

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        wanted = logits.gather(1, target[:, None])[:, 0] - logits.gather(1, truth[:, None])[:, 0]
        if logits.shape[1] < 4:
            return wanted
        ordered = logits.sort(1, descending=True).values
        return wanted / (ordered[:, 0] - ordered[:, 2:4].mean(1) + _TINY)

    return loss
