"""Modes of a model that are left as they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Each module comes out in the mode that it went in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients. Gives the device."""
    with keeping_modes(model), torch.no_grad():
        model.eval()
        yield next(model.parameters(), next(model.buffers(), torch.empty(0))).device


@contextmanager
def fixed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and weights that no gradient reaches, nor a hook that waits for one."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with keeping_modes(model):
        model.eval().requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learnt:
                parameter.requires_grad_()
