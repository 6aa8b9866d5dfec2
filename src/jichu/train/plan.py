"""Before the first step: does a step fit into memory, how is it computed fastest here, how many steps make
the budget. Found by trial steps that leave nothing changed."""

from __future__ import annotations

import datetime
import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jichu.adapt.rules import Rule
from jichu.core.devices import preemptions
from jichu.core.durations import Duration
from jichu.core.ranks import gather_objects
from jichu.data.batches import Batch
from jichu.models.cost import step_flops
from jichu.objectives.base import Context

from .config import TrainConfig
from .learner import Learner
from .memory import MIB, Memory, fewest_rows, halving, keep_freed, micro_batches, predict
from .optimizers import build, slots
from .settings import Measure, Remembered, Settings, autocast, choose, is_open, plainest, seconds_per_step

_WORTH_MEASURING = 400  # steps below which choosing costs more than it brings,
_FEW, _LONG = 50, 10  # unless they are more than few and take so many seconds
_BUSY = (
    50  # times a second that other work takes the processor away: 20 were seen without any, 90 beside some
)


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
    flops_per_row: float = 0.0  # of a step, forward and backward
    accumulate: int = 1  # micro-batches a batch is cut into
    accumulate_why: str = ""  # where they are more than was asked for


def make_plan(
    learner: Learner,
    sample: Batch,
    large: Batch,
    config: TrainConfig,
    *,
    rules: dict[str, Rule],
    epoch: int,
    tokens: int | None,
    seed: int,
    device: torch.device,
) -> Plan:
    """Decide, by a batch that is like most and one that is as `large` as any. `epoch` steps go through the data
    once, and of texts each takes so many `tokens`. UsageError where a step would not fit into the free memory."""
    rows, parts = len(sample["row"]), config.accumulate
    objective = learner.objective
    widest = "float32" if config.precision == "auto" else config.precision
    loss, largest = (
        functools.partial(trial, learner, batch, seed, widest, device) for batch in (sample, large)
    )
    fresh = functools.partial(trial_steps, learner, largest, config, rules)

    def measure(
        settings: Settings, limit: float = math.inf, of: Callable[[list[float]], float] = min
    ) -> float:
        nonlocal parts
        step = functools.partial(
            seconds_per_step, learner, sample, config, rules, seed, device, settings, limit, of
        )
        spent, parts = halving(step, parts, rows, learner, objective.divisible)
        return spent

    with _untouched(learner):
        kept = slots(config.optimizer) + (config.average is not None)
        found = predict(largest, fresh, -(-rows // parts), learner, kept, device)
        if device.type == "cpu":  # a GPU says itself when it is full
            parts = micro_batches(found, rows, parts, learner, objective.divisible)
            keep_freed(not found.tight)
        parts = max(gather_objects(parts))
        found = found._replace(rows=-(-rows // parts))
        cut_why = "" if parts == config.accumulate else _cut_said(rows, parts, found)
        budget = Duration.parse(config.budget)
        steps = (
            None if budget.unit == "seconds" else budget.steps(steps_per_epoch=epoch, tokens_per_step=tokens)
        )
        chosen, why, each = _settings(learner, sample, config, device, measure, steps, budget)
        few = min(rows, fewest_rows(learner))
        flops = step_flops(lambda: loss(few), learner) / few
        if steps is None:
            each = measure(chosen, of=statistics.median)
            steps = budget.steps(steps_per_epoch=1, seconds_per_step=each)
    if parts > config.accumulate and not cut_why:
        cut_why = f"{rows} rows at once ran out of memory when measured"
    return Plan(
        steps, why=why, memory_mib=found.needed // MIB, seconds_per_step=each, flops_per_row=flops,
        accumulate=parts, accumulate_why=cut_why, precision=chosen.precision, memory_format=chosen.memory_format,
        threads=chosen.threads, compiled=chosen.compiled,
    )  # fmt: skip


def _cut_said(rows: int, parts: int, found: Memory) -> str:
    """Why a batch is cut, in one line."""
    how = "measured by a child process" if found.probed else "predicted"
    return (
        f"a step of {rows} rows would need about {found._replace(rows=rows).needed // MIB:,} MiB ({how}) and"
        f" {found.available // MIB:,} are free: {parts} micro-batches of at most {found.rows} rows, to the same effect"
    )


def _settings(
    learner: Learner, sample: Batch, config: TrainConfig, device: torch.device, measure: Measure,
    steps: int | None, budget: Duration,
) -> tuple[Settings, str, float | None]:  # fmt: skip
    """How a step is computed, why so, and how long it takes where that was measured."""
    if not is_open(learner, config, device):
        return plainest(learner, config, device), "as configured", None
    memory = Remembered(learner, sample, config, device)
    if known := memory.recall():
        return *known, None
    if steps is not None and steps < _WORTH_MEASURING:
        plain = plainest(learner, config, device)
        if steps <= _FEW or steps * max(gather_objects(measure(plain, math.inf))) < _LONG:
            return plain, f"{steps} steps are too few to measure", None
    before, started = preemptions(), time.monotonic()
    chosen, found = choose(
        learner, config, device, measure, lambda step: budget.value if steps is None else steps * step
    )
    why = "measured: " + ", ".join(f"{setting} {1000 * s:.1f} ms a step" for setting, s in found.items())
    waited = 1 + time.monotonic() - started  # so that a short time is not judged by one of them
    if preemptions() - before > _BUSY * waited:
        why += ", beside other work: not remembered"
    else:
        memory.keep(chosen, f"{why} ({datetime.date.today().isoformat()})")
    return chosen, why, found[chosen]


def trial(
    learner: Learner, sample: Batch, seed: int, precision: str, device: torch.device, rows: int
) -> Tensor:
    """The loss of the first `rows` rows."""
    count = len(sample["row"])
    batch = {k: v[:rows] if len(v) == count else v for k, v in sample.items()}
    batch = learner.objective.prepare(batch, Context(seed))
    totals = {name: weight.sum() for name, weight in learner.objective.weights(batch).items()}
    with autocast(precision, device):
        return learner(batch, totals, 1)[0]


def trial_steps(
    learner: Learner, loss: Callable[[int], Tensor], config: TrainConfig, rules: dict[str, Rule]
) -> Callable[[int], None]:
    """Whole steps on the learner itself, as a child process may take them."""
    optimizer = build(learner, rules, config.optimizer)

    def step(rows: int) -> None:
        loss(rows).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


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
