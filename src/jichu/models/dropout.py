"""Dropout whose random numbers cost little on a processor.

torch draws a double for each value there, on one thread, which takes a tenth of a small transformer's step; here
one draw of 64 bits decides on four values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FINE = 2**16  # steps of a probability: one of 0.1 is 6,554 of them, 0.100006


class Dropout(nn.Dropout):
    """Each value is 0 with probability p, and else over 1 - p (Srivastava et al., 2014), p to 16 bits."""

    def forward(self, input: Tensor) -> Tensor:
        drawn = self.training and 0 < round(self.p * _FINE) < _FINE and input.device.type == "cpu"
        if not drawn or not input.is_contiguous() or torch.compiler.is_compiling():
            return super().forward(input)
        return input * kept(input, self.p)


def kept(values: Tensor, p: float) -> Tensor:
    """What to multiply some values on a processor by: 0, or what makes up for those that are."""
    count, dropped = values.numel(), round(p * _FINE)
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits of each
    numbers = drawn.view(torch.int16)[:count].view(values.shape)
    return (numbers >= dropped - _FINE // 2).to(values.dtype).mul_(_FINE / (_FINE - dropped))


def quicken(module: nn.Module) -> None:
    """Let a module's layers of dropout be such, those of other libraries too."""
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.__class__ = Dropout  # its own hooks, name and mode stay
