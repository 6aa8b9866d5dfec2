"""Numbers as sines and cosines (Gorishniy et al., 2022, arXiv 2203.05556)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Periodic(nn.Module):
    """For each number x a vector ReLU(W [sin 2πcx, cos 2πcx] + b), with learned frequencies c, W and b for
    each column alone. [B, F] to [B, F, width].

    `scale` is the spread of the frequencies at the beginning, and matters most: the larger, the finer the
    steps that the network can tell apart, and the more easily it follows noise.
    """

    def __init__(self, numbers: int, scale: float, frequencies: int = 48, width: int = 24):
        super().__init__()
        self.frequencies = nn.Parameter(torch.empty(numbers, frequencies))
        nn.init.trunc_normal_(self.frequencies, std=scale, a=-3 * scale, b=3 * scale)
        bound = (2 * frequencies) ** -0.5
        self.weight = nn.Parameter(torch.empty(numbers, 2 * frequencies, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, width).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        angle = 2 * math.pi * self.frequencies * numbers[..., None]  # [B, F, frequencies]
        waves = torch.cat([angle.sin(), angle.cos()], -1)
        return torch.relu(torch.einsum("bfk,fkd->bfd", waves, self.weight) + self.bias)
