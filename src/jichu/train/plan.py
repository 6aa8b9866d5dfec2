"""Before the first step: does a step fit into memory, which precision and memory format are faster
here, how many steps make the budget. Found by trial steps that leave nothing changed."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jichu.adapt.rules import Rule
from jichu.core.devices import memory_available
from jichu.core.durations import Duration
from jichu.core.errors import UsageError
from jichu.core.ranks import gather_objects
from jichu.data.batches import Batch
from jichu.models.cost import kept_bytes
from jichu.objectives.base import Context

from .config import TrainConfig
from .learner import Learner, backward, cut, total_weights
from .optimizers import build, slots

_MIB = 2**20
_WORTH_MEASURING = 1000  # steps below which choosing costs more than it brings
_TIMED_STEPS = 5
_PAYS = 0.9  # a choice less plain is made where a step takes at most this share of the plainer one's time
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Plan:
    """What was decided, and why; kept in `environment.json` and in checkpoints."""

    steps: int
    precision: str
    why: str
    memory_mib: int
    seconds_per_step: float | None = None
    memory_format: str = "contiguous"


def lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Change the order in which the convolutions' weights lie in memory; their outputs follow it."""
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            part.weight.data = part.weight.data.contiguous(memory_format=memory_format)


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass runs in."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def make_plan(
    learner: Learner,
    sample: Batch,
    config: TrainConfig,
    *,
    rules: dict[str, Rule],
    epoch: int,
    seed: int,
    device: torch.device,
) -> Plan:
    """Decide. UsageError where a step would not fit into the free memory."""
    rows = len(sample["row"])
    largest = -(-rows // config.accumulate)
    trial = functools.partial(_trial, learner, sample, seed)
    with _untouched(learner):
        kept = slots(config.optimizer) + (config.average is not None)
        found = memory(trial, largest, learner, kept, device)
        refuse_if_too_large(found, rows)
        budget = Duration.parse(config.budget)
        steps = None if budget.unit == "seconds" else budget.steps(steps_per_epoch=epoch)
        few = steps is not None and steps < _WORTH_MEASURING
        choices = _choices(learner, config, few)
        measured: dict[tuple[str, str], float] = {}
        if len(choices) > 1 or steps is None:
            for precision, memory_format in choices:
                spent = _seconds(learner, sample, config, rules, seed, device, precision, memory_format)
                measured[precision, memory_format] = max(gather_objects(spent))  # the slowest process counts
    chosen = choices[0]
    for choice in choices[1:]:
        if measured[choice] < _PAYS * measured[chosen]:
            chosen = choice
    why = "as configured"
    if len(choices) > 1:
        why = "measured: " + ", ".join(f"{p} {f} {1000 * s:.1f} ms a step" for (p, f), s in measured.items())
    elif few and "auto" in (config.precision, config.memory_format):
        why = f"{steps} steps are too few to measure"
    each = measured.get(chosen)
    if steps is None:
        steps = budget.steps(steps_per_epoch=1, seconds_per_step=each)
    return Plan(steps, chosen[0], why, found.needed // _MIB, each, chosen[1])


def _choices(learner: Learner, config: TrainConfig, few: bool) -> list[tuple[str, str]]:
    """The (precision, memory format) to choose among, the plainest first."""
    precisions = ["float32", "bfloat16"] if config.precision == "auto" else [config.precision]
    formats = ["contiguous", "channels_last"] if config.memory_format == "auto" else [config.memory_format]
    if not any(isinstance(module, _CONVOLUTIONS) for module in learner.modules()):
        formats = formats[:1]
    choices = list(itertools.product(precisions, formats))
    return choices[:1] if few else choices


def _trial(learner: Learner, sample: Batch, seed: int, rows: int) -> Tensor:
    """The loss of the first `rows` rows."""
    count = len(sample["row"])
    batch = {k: v[:rows] if len(v) == count else v for k, v in sample.items()}
    batch = learner.objective.prepare(batch, Context(seed))
    totals = {name: weight.sum() for name, weight in learner.objective.weights(batch).items()}
    return learner(batch, totals, 1)[0]


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Buffers and gradients come out as they went in."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        module.zero_grad(set_to_none=True)


class Memory(NamedTuple):
    """Bytes that a training step needs, and that are free."""

    parameters: int  # with gradients and optimizer state
    fixed: int  # kept for the backward pass whatever the number of rows
    per_row: int  # kept for each row
    rows: int  # of the largest micro-batch
    available: int

    @property
    def activations(self) -> int:
        return self.fixed + self.per_row * self.rows

    @property
    def needed(self) -> int:
        return self.parameters + self.activations


def memory(
    forward: Callable[[int], Any], rows: int, module: nn.Module, slots: int, device: torch.device
) -> Memory:
    """Predict a step's memory from the tensors that autograd keeps for two and for three rows (batch
    statistics need two).

    forward(n) runs the loss on n rows; `slots` is the number of values the optimizer keeps for each
    parameter.
    """
    few = [min(rows, n) for n in (2, 3)]
    kept = [kept_bytes(forward, n) for n in few]
    per_row = max(0, kept[1] - kept[0])
    fixed = kept[1] - per_row * few[1]
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    weights = sum(size * (2 + slots if trained else 1) for size, trained in sizes)
    return Memory(weights, fixed, per_row, rows, memory_available(device))


def refuse_if_too_large(found: Memory, rows: int) -> None:
    """UsageError, with the number of micro-batches that would fit, where a step of `rows` rows would not."""
    if found.needed <= found.available:
        return
    room = found.available - found.parameters - found.fixed
    fits = room // found.per_row if found.per_row and room > 0 else 0
    cure = f"accumulate: {-(-rows // fits)}, or batch_size: {fits}" if fits else None
    raise UsageError(
        f"a step needs about {found.needed // _MIB:,} MiB and {found.available // _MIB:,} MiB are free:"
        f" {found.parameters // _MIB:,} for the parameters, {found.activations // _MIB:,} for {found.rows} rows",
        expected=cure or "a smaller model: its parameters alone do not fit",
    )


def _seconds(
    learner: Learner, sample: Batch, config: TrainConfig, rules: dict[str, Rule], seed: int,
    device: torch.device, precision: str, memory_format: str,
) -> float:  # fmt: skip
    """The median time of a few whole steps on a copy, after two that do not count."""
    learner = copy.deepcopy(learner)
    if memory_format == "channels_last":
        lay_out(learner, torch.channels_last)
    optimizer = build(learner, rules, config.optimizer)
    times = []
    for step in range(_TIMED_STEPS + 2):
        started = time.perf_counter()
        micro = [learner.objective.prepare(m, Context(seed, step)) for m in cut(sample, config.accumulate)]
        totals, _ = total_weights(learner.objective, micro, False)
        backward(learner, micro, totals, functools.partial(autocast, precision, device))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])
