"""What can be said of embeddings without labels."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(embeddings: Tensor) -> Tensor:
    """exp of the entropy of the singular values of centred embeddings [N, D] (Roy and Vetterli,
    2007): D where all directions are used alike, 1 where all but one have collapsed, 0 where
    nothing varies."""
    z = embeddings.detach().float()
    singular = torch.linalg.svdvals(z - z.mean(0))
    total = singular.sum()
    if total <= 1e-6 * len(z):
        return torch.zeros(())
    p = singular / total
    return torch.special.entr(p).sum().exp()
