"""What a model costs: parameters, floating-point operations, memory, time, and energy where it can be read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from jichu.core.devices import memory_available

from .statistics import untouched

Batch = dict[str, Tensor]
_POWERCAP = Path("/sys/class/powercap")  # Intel's and AMD's energy counters (RAPL) under Linux
_WARM = 2  # runs that do not count
_MOST_RUNS = 200


def cost(
    model: nn.Module,
    batch_of: Callable[[int], Batch],
    batch_sizes: Sequence[int] = (1, 8, 32, 128),
    seconds: float = 1.0,
) -> dict[str, Any]:
    """The cost of a model as a plain dict; `batch_of(n)` gives a batch of n rows on the model's device.

    FLOPs (a multiplication and an addition are two) are of one row; `activation_bytes_per_row` is what
    autograd keeps of each row in training. Latency is that of one row and throughput that of larger
    batches, in evaluation without gradients, `seconds` for each; it stops before a batch that would not
    fit into memory or take longer than that. `joules_per_row` is measured by the processor's own
    counters, of all that the machine does meanwhile, or None where there are none that can be read. The
    model is left as it was found.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sizes = [(p.numel(), p.element_size(), p.requires_grad) for p in model.parameters()]
    with untouched(model):
        found: dict[str, Any] = {
            "parameters": sum(n for n, _, _ in sizes),
            "trainable": sum(n for n, _, trained in sizes if trained),
            "bytes": sum(n * size for n, size, _ in sizes)
            + sum(b.numel() * b.element_size() for b in model.buffers()),
            "flops": flops(model, batch_of),
            "activation_bytes_per_row": _per_row(model, batch_of),
            "device": str(device),
            "threads": torch.get_num_threads(),
        }
        return found | _speed(
            model, batch_of, batch_sizes, seconds, device, found["activation_bytes_per_row"]
        )


def flops(model: nn.Module, batch_of: Callable[[int], Batch]) -> dict[str, Any]:
    """{"forward", "training" (forward and backward), "by_module" (forward, of the model's parts)} for one row."""
    model.eval()  # batch statistics cannot be had of one row
    batch = batch_of(1)
    with _countable(), FlopCounterMode(display=False) as forward, torch.no_grad():
        model(batch)
    with _countable(), FlopCounterMode(display=False) as training:
        value = total(model(batch))
        if value.requires_grad:
            torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    counts, own = forward.get_flop_counts(), type(model).__name__
    parts = {name: sum(counts.get(f"{own}.{name}", {}).values()) for name, _ in model.named_children()}
    return {"forward": forward.get_total_flops(), "training": training.get_total_flops(), "by_module": parts}


@contextmanager
def _countable() -> Iterator[None]:
    """Attention by plain products: the fused ones of a processor are not counted."""
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        yield


def total(outputs: Any) -> Tensor:
    """The sum of all that a model gave, which a backward pass can start from."""
    leaves = [t for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.is_floating_point()]
    return torch.stack([t.sum() for t in leaves]).sum()


def kept_bytes(forward: Callable[[int], Any], rows: int) -> int:
    """Bytes of the tensors that autograd keeps after `forward(rows)`, weights among them."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward(rows)  # kept alive: freed storage would be counted under one address
    del result
    return sum(seen.values())


def _per_row(model: nn.Module, batch_of: Callable[[int], Batch]) -> int:
    model.train()
    two, three = (kept_bytes(lambda n: model(batch_of(n)), n) for n in (2, 3))  # batch statistics need two
    return max(0, three - two)


def _speed(
    model: nn.Module, batch_of: Callable[[int], Batch], batch_sizes: Sequence[int], seconds: float,
    device: torch.device, per_row: int,
) -> dict[str, Any]:  # fmt: skip
    model.eval()
    once = _times(model, batch_of(1), seconds, device)
    latency = {
        "median": 1000 * statistics.median(once),
        "p95": 1000 * sorted(once)[int(0.95 * (len(once) - 1))],
        "runs": len(once),
    }
    throughput: list[dict[str, float]] = []
    stopped, joules, per_step = None, None, statistics.median(once)
    for rows in sorted(batch_sizes):
        if per_row * rows > memory_available(device):
            stopped = f"{rows} rows would not fit into the free memory"
            break
        before = throughput[-1]["batch"] if throughput else 1
        if per_step * rows / before > seconds and throughput:
            stopped = f"{rows} rows would take about {per_step * rows / before:.2g} s"
            break
        batch = batch_of(rows)
        energy = energy_joules()
        times = _times(model, batch, seconds, device)
        if energy is not None and (after := energy_joules()) is not None and after >= energy:
            joules = (after - energy) / (rows * (len(times) + _WARM))  # a counter that began anew is left out
        per_step = statistics.median(times)
        throughput.append({"batch": rows, "rows_per_second": rows / per_step})
    return {"latency_ms": latency, "throughput": throughput, "stopped": stopped, "joules_per_row": joules}


def _times(model: nn.Module, batch: Batch, seconds: float, device: torch.device) -> list[float]:
    """Seconds of each of some runs, within a time; at least one after those that do not count."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    with torch.inference_mode():
        while len(times) <= _WARM or (time.perf_counter() < until and len(times) < _MOST_RUNS):
            started = time.perf_counter()
            model(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
    return times[_WARM:]


def energy_joules() -> float | None:
    """The processor packages' energy counters, summed; None where there are none or they cannot be read."""
    packages = [p for p in _POWERCAP.glob("*-rapl:*") if p.name.count(":") == 1]
    try:
        return sum(int((p / "energy_uj").read_text()) for p in packages) / 1e6 if packages else None
    except (OSError, ValueError):
        return None
