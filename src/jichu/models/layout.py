"""The order in which images and the weights of convolutions lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def has_layout(module: nn.Module) -> bool:
    """Whether anything in a module could lie in another order."""
    return any(isinstance(part, _CONVOLUTIONS) for part in module.modules())


def lay_out(module: nn.Module, memory_format: str) -> None:
    """Change the order of convolutions' weights, and of what a part that says its `memory_format` gives
    (the images made ready); whatever comes after follows them."""
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            part.weight.data = laid_out(part.weight.data, FORMATS[memory_format])
        elif hasattr(part, "memory_format"):
            part.memory_format = FORMATS[memory_format]  # type: ignore[assignment]


def laid_out(tensor: Tensor, memory_format: torch.memory_format) -> Tensor:
    """A copy in that order. Its strides say so even where a single channel makes every order the same:
    `contiguous` would leave those as they are, and convolutions take a path ten times slower."""
    return torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)
