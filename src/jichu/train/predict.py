"""A model's answers on the rows of a data set, each process doing its share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jichu.core.ranks import gather_objects, rank, world_size
from jichu.data.batches import in_order

_BATCH = 512


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; the mode of every module is left as found. Gives the device."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            tensor = next(model.parameters(), next(model.buffers(), torch.empty(0)))
            yield tensor.device
    finally:
        for module, training in modes:
            module.training = training


def predict(model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, output: str = "label") -> Tensor:
    """What the head `output` gives for the rows, [N, ...] on the processor."""
    return _over(model, tensors, rows, lambda out: out[output])


def embed(model: nn.Module, tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Pooled features [N, D] of the rows."""
    return _over(model, tensors, rows, lambda out: out["features"].pooled)


def _over(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, take: Callable[[Any], Tensor]
) -> Tensor:
    world = world_size()
    parts = []
    with evaluating(model) as device:
        for batch in in_order(tensors, rows[rank() :: world], _BATCH):
            out = model({name: tensor.to(device) for name, tensor in batch.items()})
            parts.append(take(out).float().cpu())
    mine = torch.cat(parts) if parts else torch.empty(0)
    shares = gather_objects(mine.numpy())
    if world == 1:
        return mine
    shape = next(s.shape[1:] for s in shares if len(s))
    whole = np.empty((len(rows), *shape), np.float32)
    for i, share in enumerate(shares):
        if len(share):
            whole[i::world] = share
    return torch.from_numpy(whole)
