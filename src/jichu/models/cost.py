"""What a model costs: parameters, floating-point operations, memory, time, and energy where it can be read."""

from __future__ import annotations

import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from jichu.core.devices import memory_available

from .statistics import untouched

Batch = dict[str, Tensor]
_POWERCAP = Path("/sys/class/powercap")  # Intel's and AMD's energy counters (RAPL) under Linux
_WARM = 2  # runs that do not count
_MOST_RUNS = 1000


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
            "bytes": weight_bytes(model),
            "flops": flops(model, batch_of),
            "activation_bytes_per_row": _per_row(model, batch_of),
            "device": str(device),
            "threads": torch.get_num_threads(),
        }
        return found | _speed(
            model, batch_of, batch_sizes, seconds, device, found["activation_bytes_per_row"]
        )


def weight_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def forward_flops(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """{"forward", "by_module" (of the model's parts)} for a batch."""
    with _counting() as counter, torch.no_grad():
        model(batch)
    counts, own = counter.get_flop_counts(), type(model).__name__
    parts = {name: sum(counts.get(f"{own}.{name}", {}).values()) for name, _ in model.named_children()}
    return {"forward": counter.get_total_flops(), "by_module": parts}


def flops(model: nn.Module, batch_of: Callable[[int], Batch]) -> dict[str, Any]:
    """{"forward", "training" (forward and backward), "by_module" (forward, of the model's parts)} for one row."""
    model.eval()  # batch statistics cannot be had of one row
    batch = batch_of(1)
    return forward_flops(model, batch) | {"training": step_flops(lambda: total(model(batch)), model)}


def step_flops(loss: Callable[[], Tensor], module: nn.Module) -> int:
    """FLOPs of `loss()`, a number, and of its gradients with respect to what is trained of `module`. What
    is left as it was found: mode, buffers, gradients and the process's randomness.

    Counted are products (dense, convolutions, attention, recurrent layers) as they are done once: what a
    kernel does again in the backward pass to save memory is not work of the model's. Not counted are
    element-wise work, normalisation, pooling, and whatever a kernel of one's own does.
    """
    with untouched(module), _counting() as counter, torch.enable_grad():
        value = loss()
        trained = [p for p in module.parameters() if p.requires_grad]
        before = [p.grad for p in trained]
        try:
            if (
                value.requires_grad
            ):  # `grad` would not do: the counter's hooks refuse it where weights are made of others
                value.backward(inputs=trained)
        finally:
            for parameter, gradient in zip(trained, before, strict=True):
                parameter.grad = gradient
    return counter.get_total_flops()


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """torch's counter, with formulas for the kernels of processors that it passes over."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # whole encoder layers in one kernel, in evaluation
    try:
        with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _attention(q: Size, k: Size, v: Size, *_: Any, **__: Any) -> int:
    """Scores and their sum over values: [B, H, T, D] with [B, H, S, D], then [B, H, T, S] with [B, H, S, E]."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward(gradient: Size, q: Size, k: Size, v: Size, *_: Any, **__: Any) -> int:
    return 2 * _attention(q, k, v)


def _recurrent(x: Size, *weights: Any, **_: Any) -> int:
    """Every step of every row [T, B, D] by the matrices of its layer; biases are vectors."""
    return 2 * math.prod(x[:-1]) * sum(math.prod(w) for w in _shapes(weights) if len(w) == 2)


def _recurrent_backward(x: Size, *weights: Any, **_: Any) -> int:
    return 2 * _recurrent(x, *weights)


def _shapes(weights: tuple[Any, ...]) -> list[Size]:
    """Those of the four weights of a layer that one kernel takes, or of the list that the other takes."""
    return list(weights[0]) if isinstance(weights[0], list) else list(weights[:4])


_ATEN = torch.ops.aten
_FORMULAS = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _ATEN.mkldnn_rnn_layer: _recurrent,
    _ATEN.mkldnn_rnn_layer_backward: _recurrent_backward,
    _ATEN._cudnn_rnn: _recurrent,
    _ATEN._cudnn_rnn_backward: _recurrent_backward,
}


def total(outputs: Any) -> Tensor:
    """The sum of all that a model gave, which a backward pass can start from."""
    leaves = [t for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.is_floating_point()]
    return torch.stack([t.sum() for t in leaves]).sum()


def kept_bytes(forward: Callable[[int], Any], rows: int, but: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that autograd keeps after `forward(rows)`, without those that are there anyway."""
    seen: dict[int, int] = {}
    there = {tensor.untyped_storage().data_ptr() for tensor in but}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that keeps its own output, and that its node, would never be freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward(rows)  # kept alive: freed storage would be counted under one address
    del result
    return sum(seen.values())


def _per_row(model: nn.Module, batch_of: Callable[[int], Batch]) -> int:
    model.train()
    two, three = (kept_bytes(lambda n: model(batch_of(n)), n) for n in (2, 3))  # batch statistics need two
    return max(0, three - two)


class _Alive(TorchDispatchMode):
    """Bytes of the tensors that there are at once, of those made meanwhile: `now`, and the `most` so far."""

    def __init__(self, there: Iterable[Tensor]):
        super().__init__()
        self.now = self.most = 0
        self.known = {tensor.untyped_storage().data_ptr() for tensor in there if _dense(tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and _dense(tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.known or not size:
            return
        self.known.add(address)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._freed, address, size)

    def _freed(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def _dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided


def peak_bytes(model: nn.Module, batch: Batch) -> int:
    """The most bytes that the tensors made by `model(batch)` take at once, without gradients; beside them are weights and
    batch, and what a kernel takes for itself."""
    with torch.no_grad(), _Alive([*model.parameters(), *model.buffers(), *batch.values()]) as alive:
        model(batch)
    return alive.most


class Speed(NamedTuple):
    """A batch of so many rows: seconds of each run, and joules of a row where they can be read."""

    rows: int
    seconds: list[float]
    joules: float | None

    @property
    def rows_per_second(self) -> float:
        return self.rows / statistics.median(self.seconds)


def speeds(
    model: nn.Module, batch_of: Callable[[int], Batch], batch_sizes: Sequence[int], seconds: float,
    device: torch.device, per_row: int,
) -> tuple[list[Speed], str | None]:  # fmt: skip
    """Batches from the smallest on, `seconds` for each; and why it stopped before a batch that would take longer than
    that, or not fit into memory by `per_row` bytes."""
    found: list[Speed] = []
    for rows in sorted(batch_sizes):
        if per_row * rows > memory_available(device):
            return found, f"{rows} rows would not fit into the free memory"
        if found and (taken := rows / found[-1].rows_per_second) > seconds:
            return found, f"{rows} rows would take about {taken:.2g} s"
        batch = batch_of(rows)
        energy = energy_joules()
        times, joules = _times(model, batch, seconds, device), None
        if energy is not None and (after := energy_joules()) is not None and after >= energy:
            joules = (after - energy) / (rows * (len(times) + _WARM))  # a counter that began anew is left out
        found.append(Speed(rows, times, joules))
    return found, None


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
    found, stopped = speeds(model, batch_of, batch_sizes, seconds, device, per_row)
    throughput = [{"batch": s.rows, "rows_per_second": s.rows_per_second} for s in found]
    joules = next((s.joules for s in reversed(found) if s.joules is not None), None)
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
