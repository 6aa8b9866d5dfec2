"""Rectangles at random places."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Uniform, grains

_ERASED = (0.02, 0.4)  # shares of the area, and longest shape, of Zhong et al.
_LONGEST = 1 / 0.3


def sides(area: Tensor, quantile: Tensor, longest: float) -> Tensor:
    """Width and height [B, 2], as shares of an image's, of boxes with the areas [B].

    Their ratio is log-uniform from 1 / longest to longest, as far as the box fits into the image.
    """
    ratio = (1 / area).clamp(max=longest) ** (2 * quantile - 1)
    return torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1)


def inside(low: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [B, 1, H, W] of the pixels from `low` to before `high`, both [B, 2] as x and y."""
    y, x = (torch.arange(side, device=low.device) for side in size)
    across = (x >= low[:, :1]) & (x < high[:, :1])
    down = (y >= low[:, 1:]) & (y < high[:, 1:])
    return (down[:, :, None] & across[:, None, :])[:, None]


def erase(images: Tensor, share: float, uniform: Uniform) -> Tensor:
    """In a share of the images, a rectangle becomes noise (Zhong et al., 2017)."""
    height, width = images.shape[2:]
    chosen, area, quantile, *place = uniform(5, "erase").to(images.device).unbind(1)
    least, most = _ERASED
    extent = torch.tensor([width, height], device=images.device)
    box = (sides(least + (most - least) * area, quantile, _LONGEST) * extent).round().clamp(min=1)
    low = (torch.stack(place, dim=1) * (extent - box + 1)).floor()
    hidden = inside(low, low + box, (height, width)) & (chosen < share)[:, None, None, None]
    return torch.where(hidden, grains(uniform, images), images)
