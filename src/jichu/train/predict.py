"""A model's answers on the rows of a data set, each process doing its share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from jichu.core.doctor import with_threads
from jichu.core.ranks import gather_objects, rank, world_size
from jichu.data.batches import Batch, gather, in_order
from jichu.models.inputs import Pixels
from jichu.models.layout import laid, layout, plain_order
from jichu.models.modes import evaluating
from jichu.models.packed import packed

from .config import TrainConfig
from .settings import Settings, agreed, autocast, choose, is_hopeless, plainest

POOLED = "(pooled)"  # among the names of heads
_MOST_ROWS, _MOST_PIXELS, _MOST_TOKENS = 512, 2**21, 2**14  # of a batch
_WORTH_LAYING_OUT = 256  # rows; changing the order of all weights takes about as long as a few of them
_WORTH_MEASURING = 20  # batches


def predict(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, heads: list[str], pooled: bool = False
) -> dict[str, Tensor]:
    """What each of the heads gives for the rows, [N, ...] on the processor; `pooled` features [N, D] too, as `POOLED`."""

    def call(batch: Batch) -> dict[str, Tensor]:
        out = model(batch)
        found = {head: out[head] for head in heads}
        return found | {POOLED: out["features"].pooled} if pooled else found

    with _ordered(model, len(rows)):
        return _over(model, tensors, rows, call)


def embed(model: nn.Module, tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Pooled features [N, D] of the rows."""
    with _ordered(model, len(rows)):
        return _embed(model, tensors, rows)


def _embed(model: nn.Module, tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
    # the heads are not asked where that can be: they may not be fitted yet
    features = getattr(model, "features", lambda batch: model(batch)["features"])
    return _over(model, tensors, rows, lambda batch: {"": features(batch).pooled})[""]


def embed_fast(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, config: TrainConfig
) -> tuple[Tensor, Settings]:
    """`embed` in the precision, memory format and threads that are fastest here, where there are enough rows
    to measure that."""
    size = _rows_at_once(model, tensors)
    passes = len(rows) / size
    sample = rows[:size]
    with evaluating(model) as device:

        def measure(settings: Settings, limit: float) -> float:
            times: list[float] = []
            with computing(model, settings, device):
                while len(times) < 3 and not (times and is_hopeless(times, limit)):
                    started = time.perf_counter()
                    _embed(model, tensors, sample)
                    times.append(agreed(time.perf_counter() - started))
            return min(times)

        settings = plainest(model, config, device)
        if passes >= _WORTH_MEASURING:
            settings, _ = choose(model, config, device, measure, lambda once: passes * once, answers=True)
        with computing(model, settings, device):
            return _embed(model, tensors, rows), settings


@contextmanager
def computing(model: nn.Module, settings: Settings, device: torch.device) -> Iterator[None]:
    """Computed so while the block runs."""
    with (
        laid(model, settings.memory_format),
        with_threads(settings.threads),
        autocast(settings.precision, device),
        packed(model) if settings.packed else nullcontext(),
    ):
        yield


def _over(
    model: nn.Module, tensors: dict[str, Tensor], rows: Tensor, call: Callable[[Batch], dict[str, Tensor]]
) -> dict[str, Tensor]:
    world = world_size()
    parts: list[dict[str, Tensor]] = []
    mine = rows[rank() :: world]
    lengths = getattr(tensors.get("tokens"), "lengths", None)
    # longest first, so that little is padded, and what does not fit into memory is known at once
    order = (
        torch.arange(len(mine)) if lengths is None else lengths[mine].argsort(descending=True, stable=True)
    )
    with evaluating(model) as device:
        # a batch of no rows at least, so that the shapes are known
        size = _rows_at_once(model, tensors)
        for batch in (
            in_order(tensors, mine[order], size, lengths, _MOST_TOKENS)
            if len(mine)
            else [gather(tensors, mine)]
        ):
            found = call({name: tensor.to(device) for name, tensor in batch.items()})
            parts.append({name: value.float().cpu() for name, value in found.items()})
    place = order.argsort()
    return {
        name: _whole(torch.cat([p[name] for p in parts]).index_select(0, place), len(rows))
        for name in parts[0]
    }


def _ordered(model: nn.Module, rows: int) -> AbstractContextManager[None]:
    """The plain order of images where there are many."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return laid(model, plain_order(device) if rows >= _WORTH_LAYING_OUT else layout(model))


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
    place = torch.cat([torch.arange(rows)[i::world] for i in range(world)]).argsort()
    return torch.cat(gather_objects(mine)).index_select(0, place)  # sparse where they are counts
