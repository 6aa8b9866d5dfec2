"""The square attack: no gradients, only answers (Andriushchenko et al., 2020, arXiv 1912.00049)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError

from .base import Attack, Draw, Victim, fooled
from .losses import margin
from .threat import Threat, by_row

# shares of the queries, of 10,000, after which the squares are half as large, as in the paper
_HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


class Square(Attack):
    """A square of the image (of other inputs a stretch) is set to ±epsilon at random, and kept where the margin falls; it
    begins with stripes. Only for linf."""

    def __init__(
        self, queries: Annotated[int, Field(ge=1)] = 1000, share: Annotated[float, Field(gt=0, le=1)] = 0.8
    ):
        self.queries, self.share = queries, share

    @torch.no_grad()
    def __call__(self, victim: Victim, x: Tensor, truth: Tensor, threat: Threat, draw: Draw) -> Tensor:
        if threat.norm != "linf":
            raise UsageError(f"the square attack is not for {threat.norm}", expected="norm linf")
        shape, images = x.shape, _as_images(x)
        found = threat.project(images + threat.epsilon * _signs(draw(images[:, :, :1], "stripes")), images)
        out = victim(found.view(shape))
        lowest, left = margin(out, truth), (~fooled(out, truth)).nonzero()[:, 0]
        height, width = images.shape[2:]
        for query in range(1, self.queries):
            if not len(left):
                break
            area = self.share * _part(query / self.queries) * height * width
            side = max(1, min(round(math.sqrt(area)), height, width)) if height > 1 else 1
            across = side if height > 1 else max(1, min(round(area), width))
            drawn = draw(x.new_empty(len(x), images.shape[1] + 2), f"square.{query}")[left]
            top = (drawn[:, 0] * (height - side + 1)).long()
            begin = (drawn[:, 1] * (width - across + 1)).long()
            rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
            inside = ((rows >= top[:, None]) & (rows < top[:, None] + side))[:, None, :, None]
            inside = (
                inside & ((columns >= begin[:, None]) & (columns < begin[:, None] + across))[:, None, None, :]
            )
            changed = images[left] + threat.epsilon * _signs(drawn[:, 2:])[:, :, None, None]
            tried = torch.where(inside, threat.project(changed, images[left]), found[left])
            out = victim.of(left)(tried.view(-1, *shape[1:]))
            higher = margin(out, truth[left])
            better = higher > lowest[left]
            found[left] = torch.where(by_row(better, tried), tried, found[left])
            lowest[left] = torch.where(better, higher, lowest[left])
            left = left[~(better & fooled(out, truth[left]))]
        return found.view(shape)


def _as_images(x: Tensor) -> Tensor:
    """[B, C, H, W], of height 1 where the inputs are no images."""
    return x if x.ndim == 4 else x.flatten(1)[:, None, None, :]


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)


def _part(done: float) -> float:
    """How large the squares are now, of what they were at first."""
    return 0.5 ** sum(done > share for share in _HALVED)
