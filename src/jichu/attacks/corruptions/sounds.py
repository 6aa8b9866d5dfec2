"""Of sounds [B, samples] from -1 to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def noise(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """White, 25 to 5 decibels below the sound."""
    decibels = (25, 20, 15, 10, 5)[strength - 1]
    level = x.square().mean(1, keepdim=True).sqrt() * 10 ** (-decibels / 20)
    return (x + level * torch.randn(x.shape, generator=rng).to(x)).clamp(-1, 1)


def faster(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """By 5% to 40%, and so higher; silence after it."""
    return _played(x, (1.05, 1.1, 1.2, 1.3, 1.4)[strength - 1])


def slower(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """By 5% to 30%, and so lower; what no longer fits is cut."""
    return _played(x, (0.95, 0.9, 0.85, 0.8, 0.7)[strength - 1])


def quiet(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """By 6 to 40 decibels, in steps of 16 bits."""
    softer = x * 10 ** (-(6, 12, 20, 30, 40)[strength - 1] / 20)
    return (softer * 2**15).round() / 2**15


def clipped(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Too loud for the microphone: cut off at 70% to 5% of the largest amplitude."""
    most = x.abs().amax(1, keepdim=True) * (0.7, 0.5, 0.3, 0.15, 0.05)[strength - 1]
    return torch.minimum(torch.maximum(x, -most), most)


def _played(x: Tensor, speed: float) -> Tensor:
    samples = x.shape[1]
    found = F.interpolate(x[:, None], max(1, round(samples / speed)), mode="linear", align_corners=False)[
        :, 0
    ]
    return F.pad(found, (0, max(0, samples - found.shape[1])))[:, :samples]
