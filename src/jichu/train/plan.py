"""Before the first step: does a step fit into memory, how is it computed fastest here, how many steps make
the budget. Found by trial steps that leave nothing changed."""

from __future__ import annotations

import datetime
import functools
import statistics
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
from .learner import Learner
from .optimizers import slots
from .settings import Measure, Remembered, Settings, choose, is_open, plainest, seconds_per_step

_MIB = 2**20
_WORTH_MEASURING = 400  # steps below which choosing costs more than it brings


@dataclass(frozen=True)
class Plan:
    """What was decided, and why; kept in `environment.json` and in checkpoints."""

    steps: int
    precision: str
    why: str
    memory_mib: int
    seconds_per_step: float | None = None
    memory_format: str = "contiguous"
    threads: int = 1
    compiled: bool = False


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
    measure = functools.partial(
        seconds_per_step, learner, sample, config, rules, seed, device, config.accumulate
    )
    with _untouched(learner):
        kept = slots(config.optimizer) + (config.average is not None)
        found = memory(trial, largest, learner, kept, device)
        refuse_if_too_large(found, rows)
        budget = Duration.parse(config.budget)
        steps = None if budget.unit == "seconds" else budget.steps(steps_per_epoch=epoch)
        chosen, why, each = _settings(learner, sample, config, device, measure, steps, budget)
    if steps is None:
        each = max(gather_objects(measure(chosen, of=statistics.median)))
        steps = budget.steps(steps_per_epoch=1, seconds_per_step=each)
    return Plan(steps, why=why, memory_mib=found.needed // _MIB, seconds_per_step=each, **chosen._asdict())


def _settings(
    learner: Learner, sample: Batch, config: TrainConfig, device: torch.device, measure: Measure,
    steps: int | None, budget: Duration,
) -> tuple[Settings, str, float | None]:  # fmt: skip
    """How a step is computed, why so, and how long it takes where that was measured."""
    if not is_open(learner, config):
        return plainest(learner, config, device), "as configured", None
    memory = Remembered(learner, sample, config, device)
    if known := memory.recall():
        return *known, None
    if steps is not None and steps < _WORTH_MEASURING:
        return plainest(learner, config, device), f"{steps} steps are too few to measure", None
    chosen, found = choose(
        learner, config, device, measure, lambda step: budget.value if steps is None else steps * step
    )
    why = "measured: " + ", ".join(f"{setting} {1000 * s:.1f} ms a step" for setting, s in found.items())
    memory.keep(chosen, f"{why} ({datetime.date.today().isoformat()})")
    return chosen, why, found[chosen]


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
