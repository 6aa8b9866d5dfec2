"""A model's answers on the rows of a data set, each process doing its share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from jichu.core.ranks import gather_objects, rank, world_size
from jichu.data.batches import Batch, gather, in_order
from jichu.models.inputs import Pixels

_MOST_ROWS, _MOST_PIXELS = 512, 2**21  # of a batch


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


def predict(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, heads: list[str]
) -> dict[str, Tensor]:
    """What each of the heads gives for the rows, [N, ...] on the processor."""

    def call(batch: Batch) -> dict[str, Tensor]:
        out = model(batch)
        return {head: out[head] for head in heads}

    return _over(model, tensors, rows, call)


def embed(model: nn.Module, tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Pooled features [N, D] of the rows."""
    # the heads are not asked where that can be: they may not be fitted yet
    features = getattr(model, "features", lambda batch: model(batch)["features"])
    return _over(model, tensors, rows, lambda batch: {"": features(batch).pooled})[""]


def _over(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, call: Callable[[Batch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    world = world_size()
    parts: list[dict[str, Tensor]] = []
    with evaluating(model) as device:
        # a batch of no rows at least, so that the shapes are known
        mine = rows[rank() :: world]
        for batch in (
            in_order(tensors, mine, _rows_at_once(model, tensors)) if len(mine) else [gather(tensors, mine)]
        ):
            found = call({name: tensor.to(device) for name, tensor in batch.items()})
            parts.append({name: value.float().cpu() for name, value in found.items()})
    return {name: _whole(torch.cat([p[name] for p in parts]), len(rows)) for name in parts[0]}


def _rows_at_once(model: nn.Module, tensors: dict[str, Tensor]) -> int:
    """Fewer where images are large, as they are or as the model scales them."""
    scaled = next((m.size for m in model.modules() if isinstance(m, Pixels) and m.size), None)
    side = scaled or (tensors["image"].shape[-1] if "image" in tensors else 1)
    return max(8, min(_MOST_ROWS, _MOST_PIXELS // side**2))


def _whole(mine: Tensor, rows: int) -> Tensor:
    """The rows of all processes, each of which has every `world`-th."""
    world = world_size()
    if world == 1:
        return mine
    whole = np.empty((rows, *mine.shape[1:]), np.float32)
    for i, share in enumerate(gather_objects(mine.numpy())):
        whole[i::world] = share
    return torch.from_numpy(whole)
