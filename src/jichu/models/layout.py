"""The order in which images and the weights of convolutions lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def has_layout(module: nn.Module) -> bool:
    """Whether anything in a module could lie in another order."""
    return any(isinstance(part, _CONVOLUTIONS) for part in module.modules())


def plain_order(device: torch.device) -> str:
    """The order to take where nothing is known. On a processor channels-last: no network was seen to be slower
    in it, and pooling and first layers are ten times faster."""
    return "channels_last" if device.type == "cpu" else "contiguous"


def lay_out(module: nn.Module, memory_format: str) -> None:
    """Change the order of convolutions' weights, and of what a part that says its `memory_format` gives
    (the images made ready); whatever comes after follows them."""
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            part.weight.data = laid_out(part.weight.data, FORMATS[memory_format])
        elif hasattr(part, "memory_format"):
            part.memory_format = FORMATS[memory_format]  # type: ignore[assignment]


@contextmanager
def laid(module: nn.Module, memory_format: str) -> Iterator[None]:
    """In that order while the block runs."""
    before = layout(module)
    if before == memory_format:
        yield
        return
    lay_out(module, memory_format)
    try:
        yield
    finally:
        lay_out(module, before)


def layout(module: nn.Module) -> str:
    """The order a module was laid out in."""
    ordered = (getattr(part, "memory_format", None) for part in module.modules())
    return "channels_last" if torch.channels_last in ordered else "contiguous"


def laid_out(tensor: Tensor, memory_format: torch.memory_format) -> Tensor:
    """A copy in that order. Its strides say so even where a single channel makes every order the same:
    `contiguous` would leave those as they are, and convolutions take a path ten times slower."""
    return torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)
