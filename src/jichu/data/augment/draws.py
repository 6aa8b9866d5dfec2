"""Random numbers, a row each, from the caller's uniform ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Uniform = Callable[[int, str], Tensor]  # (n, salt) -> [B, n] in [0, 1), in steps of 2^-24


def normal(uniform: Uniform, like: Tensor) -> Tensor:
    """Standard normal numbers of the shape of `like` (Box and Muller, 1958)."""
    count = like[0].numel()
    half = -(-count // 2)
    radius = (-2 * (1 - uniform(half, "radius")).log()).sqrt()
    angle = 2 * math.pi * uniform(half, "angle")
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :count].view_as(like).to(like.device)


def grains(uniform: Uniform, like: Tensor) -> Tensor:
    """Random grey levels 0 to 1 of the shape of `like` [B, C, H, W].

    One number has the bits of three levels, which is what makes this cheap.
    """
    batch, channels, height, width = like.shape
    parts = -(-channels // 3)
    bits = (uniform(parts * height * width, "grains") * (1 << 24)).int().view(batch, parts, 1, height, width)
    shifts = torch.tensor([0, 8, 16], device=bits.device, dtype=torch.int32)[:, None, None]
    levels = (bits >> shifts) & 255
    return levels.flatten(1, 2)[:, :channels].to(like.device, like.dtype) / 255
