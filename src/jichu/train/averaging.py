"""The mean of the weights along the way, beside the weights themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from jichu.models.averaging import follow


class Average:
    """A copy of the model whose weights and statistics are a mean of the model's: after each step they go
    towards them by the share that the rule gives for (step, steps)."""

    def __init__(self, model: nn.Module, rule: Callable[..., float]):
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._model, self._rule = model, rule

    def update(self, step: int, steps: int) -> None:
        """Take in the weights after a step (0-based)."""
        follow(self.module, self._model, self._rule(step=step, steps=steps))


def has_statistics(model: nn.Module) -> bool:
    """Whether the model normalises by batch statistics that training moves."""
    return any(_moves(module) for module in model.modules())


def _moves(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.training and module.track_running_stats


@contextmanager
def fresh_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes in the block make the batch statistics anew, as the plain mean over the batches: mean
    weights have other statistics than the mean of statistics."""
    found = [module for module in model.modules() if isinstance(module, _BatchNorm) and _moves(module)]
    momenta = [module.momentum for module in found]
    for module in found:
        module.reset_running_stats()
        module.momentum = None
    try:
        with torch.no_grad():
            yield
    finally:
        for module, momentum in zip(found, momenta, strict=True):
            module.momentum = momentum
