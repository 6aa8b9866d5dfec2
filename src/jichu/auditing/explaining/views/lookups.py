"""Codes become floats where a model looks up their vectors; there gradients begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from jichu.models.tables import OneHot

_KINDS = (nn.Embedding, OneHot)


def lookups(module: nn.Module) -> list[nn.Module]:
    """The parts of a network that look codes up."""
    return [part for part in module.modules() if isinstance(part, _KINDS)]


@contextmanager
def hooked(parts: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    """With a forward hook on some parts while the block runs."""
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part.register_forward_hook(hook).remove)
        yield


@contextmanager
def recorded(parts: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What the parts give, call after call."""
    found: list[Tensor] = []
    with hooked(parts, lambda part, given, vectors: found.append(vectors.detach())):
        yield found


@contextmanager
def replaced(parts: Sequence[nn.Module], values: Sequence[Tensor]) -> Iterator[None]:
    """The parts give these in their place, call after call."""
    left = iter(values)
    with hooked(parts, lambda part, given, vectors: next(left)):
        yield
