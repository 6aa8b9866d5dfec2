"""What can be said of embeddings without labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def alignment(one: Tensor, two: Tensor) -> Tensor:
    """Mean squared distance between the two embeddings [N, D] of each row, on the unit sphere: 0 where they
    are the same, 2 where they have nothing in common (Wang and Isola, 2020, arXiv 2005.10242)."""
    return (F.normalize(one) - F.normalize(two)).square().sum(1).mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """log of the mean exp(-2 d²) over the pairs of rows of embeddings [N, D], d being their distance on the unit
    sphere: 0 where all are the same, near -4 where they are spread evenly (Wang and Isola, 2020)."""
    z = F.normalize(embeddings)
    if len(z) < 2:
        return torch.zeros(())
    return torch.pdist(z).square().mul(-2).exp().mean().log()
