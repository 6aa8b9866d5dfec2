"""Whether an attribution says anything of the model: does what it names matter, and does it depend on the weights?"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from jichu.core.randomness import generator
from jichu.models.model import Model

from .views import View

_STEPS = 16  # in which the places are taken away


def curves(view: View, worth: Tensor, *, insert: bool) -> Tensor:
    """The probability [B, steps + 1] as places are taken away (or put back), those that are worth most first (Petsiuk et
    al., 2018, arXiv 1806.07421)."""
    free = view.free().flatten(1)
    ranks = worth.flatten(1).masked_fill(~free, -torch.inf).argsort(1, descending=True).argsort(1)
    counts = free.sum(1, keepdim=True)
    found = []
    for step in range(_STEPS + 1):
        touched = (ranks < (counts * step / _STEPS).round()) & free
        present = touched | ~free if insert else ~touched
        found.append(view.shown(present.view(-1, *view.shape).float(), view.rows))
    return torch.stack(found, 1)


def area(curve: Tensor) -> np.ndarray:
    """Under each of the curves [B, steps + 1], between 0 and 1 as they are."""
    return torch.trapezoid(curve.double(), dim=1).div(curve.shape[1] - 1).numpy()


def at_random(view: View, rows: Tensor, seed: int) -> Tensor:
    """What the places of some rows [B] of the data would be worth if it were by lot, [B, *shape]."""
    return torch.stack(
        [torch.rand(view.shape, generator=generator("at random", seed, row)) for row in rows.tolist()]
    )


def incomplete(view: View, worth: Tensor) -> np.ndarray:
    """By how much [B] the worths do not add up to the difference between the answer and that to the baseline, as a share of
    such differences on average: one row's own may be next to nothing."""
    with torch.no_grad():
        difference = view.value(probability=False) - view.answer(*view.baselines, view.rows)
    missing = worth.flatten(1).sum(1) - difference
    return (missing.abs() / difference.abs().mean().clamp(min=1e-6)).double().numpy()


def is_shuffled(model: Model) -> bool:
    """Whether its numbers in another order make another model: which columns trees ask for would stay."""
    buffers = [b for b in model.heads.buffers() if b.numel() > 1]
    return all(b.is_floating_point() or b.dtype == torch.bool for b in buffers)


def randomised(model: Model, seed: int) -> Model:
    """A copy whose weights are in another order, each tensor by itself: what it learnt is gone, and how large weights are
    stays (after Adebayo et al., 2018, arXiv 1810.03292)."""
    other = copy.deepcopy(model)
    draw = generator("randomised", seed)
    learnt = [*other.parameters(), *(b for b in other.heads.buffers() if b.is_floating_point())]
    with torch.no_grad():
        for tensor in learnt:
            tensor.copy_(tensor.flatten()[torch.randperm(tensor.numel(), generator=draw)].view_as(tensor))
    return other


def alike(one: Tensor, two: Tensor, free: Tensor) -> np.ndarray:
    """The rank correlation [B] of what the free places of each row are worth, whatever the sign; 0 where all are worth
    the same."""
    from scipy.stats import rankdata

    found = np.zeros(len(one))
    for row, (a, b, there) in enumerate(zip(one.abs(), two.abs(), free, strict=True)):
        x, y = (rankdata(values[there].numpy()) for values in (a, b))
        if len(x) > 1 and x.std() and y.std():
            found[row] = np.corrcoef(x, y)[0, 1]
    return found
