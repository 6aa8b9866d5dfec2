"""The order in which images and the weights of convolutions lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def learnt(layer: Any) -> Tensor:
    """A layer's weight as it is learned, where something stands between that and the weight as it is used."""
    ways = getattr(layer, "parametrizations", {})
    return getattr(ways["weight"], "original", layer.weight) if "weight" in ways else layer.weight


def has_layout(module: nn.Module) -> bool:
    """Whether anything in a module could lie in another order."""
    found = [part for part in module.modules() if isinstance(part, _CONVOLUTIONS)]
    return bool(found) and not any(map(_breaks, found))


def _breaks(convolution: nn.Module) -> bool:
    """Whether torch writes past the end of its memory in channels-last order: seen in version 2.13 on
    processors without AVX-512, with strided 1×1 kernels on few channels."""
    return (
        isinstance(convolution, nn.Conv2d)
        and convolution.kernel_size == (1, 1)
        and convolution.stride != (1, 1)
        and convolution.in_channels < 8
        and torch.backends.cpu.get_cpu_capability() not in ("AVX512", "DEFAULT")
    )


def plain_order(device: torch.device) -> str:
    """The order to take where nothing is known. On a processor channels-last: no network was seen to be slower
    in it, and pooling and first layers are ten times faster."""
    return "channels_last" if device.type == "cpu" else "contiguous"


def lay_out(module: nn.Module, memory_format: str) -> None:
    """Change the order of convolutions' weights, and of what a part that says its `memory_format` gives
    (the images made ready); whatever comes after follows them."""
    if memory_format != "contiguous" and not has_layout(module):
        return
    for name, part in module.named_modules():
        if isinstance(part, _CONVOLUTIONS):
            if ".lora_" in name:
                continue  # of which peft takes plain views
            weight = learnt(part)
            weight.data = laid_out(weight.data, FORMATS[memory_format])
        elif hasattr(part, "memory_format"):
            part.memory_format = FORMATS[memory_format]


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
