"""Rules by depth: the blocks of a backbone from its inputs to its outputs, and what is trained of them when."""

from __future__ import annotations

import functools
import re
from typing import Any

from torch import nn

from jichu.core.errors import UsageError

_BEGINS_LATEST = 0.8  # of the training: by then every block is being trained
_SLOWER = 2.6  # how much slower each block below learns (Howard and Ruder, 2018)
_RECURRENT = re.compile(r"(.*\.)?[^.]*_l(\d+)(_reverse)?")  # weights of torch's recurrent layers
_NUMBERED = re.compile(r"(?:[^.]*\.)*?[^.]*?\d+(?=\.)")


def blocks(model: nn.Module) -> list[str]:
    """A pattern for the parameters of each block of a backbone, the first one first. A block is what shares a name up
    to its first number, such as `layers.3` or `layer1`; what has no number (embeddings, a last normalisation) goes
    with the block before it, or with the first."""
    found: list[list[str]] = []
    seen, counted = set(), False
    for name, _ in model.named_parameters():
        if not name.startswith("backbone."):
            continue
        pattern, numbered = _block(name.removeprefix("backbone."))
        if pattern in seen:
            continue
        seen.add(pattern)
        if not found or (numbered and counted):
            found.append([])
        counted = counted or numbered
        found[-1].append(pattern)
    return [rf"backbone\.({'|'.join(patterns)})" for patterns in found]


def _block(name: str) -> tuple[str, bool]:
    """The pattern of the block that a parameter is of, and whether it has a number."""
    if recurrent := _RECURRENT.fullmatch(name):
        return rf"{re.escape(recurrent[1] or '')}[^.]*_l{recurrent[2]}(_reverse)?", True
    if numbered := _NUMBERED.match(name):
        return rf"{re.escape(numbered.group())}\..*", True
    parent = name.rpartition(".")[0]
    return (rf"{re.escape(parent)}\.[^.]*" if parent else re.escape(name)), False


def last(count: int, model: nn.Module) -> list[tuple[str, Any]]:
    """Only the last blocks are trained. UsageError where there are not so many."""
    found = blocks(model)
    if not 1 <= count <= len(found):
        raise UsageError(
            f"the last {count} blocks of a backbone that has {len(found)}",
            where="adapt", expected=f"last-1 to last-{len(found)}, or full" if found else "full",
        )  # fmt: skip
    return [(pattern, 1.0) for pattern in found[-count:]] + [(".*", "frozen")]


def gradual(model: nn.Module) -> list[tuple[str, Any]]:
    """The head alone at first; then blocks join one after the other from the last to the first, each learning slower
    than the one above it (ULMFiT: Howard and Ruder, 2018, arXiv 1801.06146)."""
    found = blocks(model)
    rules: list[tuple[str, Any]] = [
        (pattern, functools.partial(joins, begin=_BEGINS_LATEST * above / len(found), factor=_SLOWER**-above))
        for above, pattern in enumerate(reversed(found), 1)
    ]
    return [*rules, (".*", 1.0)]


def joins(progress: float, begin: float, factor: float) -> float:
    """Nothing before `begin`, a factor of the rate from then on."""
    return factor if progress >= begin else 0.0
