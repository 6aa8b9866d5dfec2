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
from typing import Any

import torch
from torch import Tensor, nn

from jichu.adapt.rules import Rule
from jichu.core.durations import Duration
from jichu.core.ranks import gather_objects
from jichu.data.batches import Batch
from jichu.objectives.base import Context

from .config import TrainConfig
from .learner import Learner, backward, cut, total_weights
from .memory import MIB, Memory, halving, keep_freed, micro_batches, predict
from .optimizers import build, slots

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
    accumulate: int = 1  # micro-batches a batch is cut into
    accumulate_why: str = ""  # where they are more than was asked for


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
    widest = "float32" if config.precision == "auto" else config.precision
    loss = functools.partial(trial, learner, sample, seed, widest, device)
    with _untouched(learner):
        kept = slots(config.optimizer) + (config.average is not None)
        fresh = functools.partial(trial_steps, learner, loss, config, rules)
        found = predict(loss, fresh, largest, learner, kept, device)
        parts = config.accumulate
        if device.type == "cpu":  # a GPU says itself when it is full
            parts = micro_batches(found, rows, parts, learner, learner.objective.independent)
            keep_freed(not found.tight)
        parts = max(gather_objects(parts))
        found = found._replace(rows=-(-rows // parts))
        cut_why = "" if parts == config.accumulate else _cut_said(rows, parts, found)
        budget = Duration.parse(config.budget)
        steps = None if budget.unit == "seconds" else budget.steps(steps_per_epoch=epoch)
        few = steps is not None and steps < _WORTH_MEASURING
        choices = _choices(learner, config, few)
        measured: dict[tuple[str, str], float] = {}
        if len(choices) > 1 or steps is None:
            for choice in choices:
                seconds = functools.partial(_seconds, learner, sample, config, rules, seed, device, *choice)
                spent, parts = halving(seconds, parts, rows, learner, learner.objective.independent)
                measured[choice] = max(gather_objects(spent))  # the slowest process counts
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
    if parts > config.accumulate and not cut_why:
        cut_why = f"{rows} rows at once ran out of memory when measured"
    return Plan(steps, chosen[0], why, found.needed // MIB, each, chosen[1], parts, cut_why)


def _cut_said(rows: int, parts: int, found: Memory) -> str:
    """Why a batch is cut, in one line."""
    how = "measured by a child process" if found.probed else "predicted"
    return (
        f"a step of {rows} rows would need about {found._replace(rows=rows).needed // MIB:,} MiB ({how}) and"
        f" {found.available // MIB:,} are free: {parts} micro-batches of at most {found.rows} rows, to the same effect"
    )


def _choices(learner: Learner, config: TrainConfig, few: bool) -> list[tuple[str, str]]:
    """The (precision, memory format) to choose among, the plainest first."""
    precisions = ["float32", "bfloat16"] if config.precision == "auto" else [config.precision]
    formats = ["contiguous", "channels_last"] if config.memory_format == "auto" else [config.memory_format]
    if not any(isinstance(module, _CONVOLUTIONS) for module in learner.modules()):
        formats = formats[:1]
    choices = list(itertools.product(precisions, formats))
    return choices[:1] if few else choices


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


def _seconds(
    learner: Learner, sample: Batch, config: TrainConfig, rules: dict[str, Rule], seed: int,
    device: torch.device, precision: str, memory_format: str, parts: int,
) -> float:  # fmt: skip
    """The median time of a few whole steps on a copy, after two that do not count."""
    learner = copy.deepcopy(learner)
    if memory_format == "channels_last":
        lay_out(learner, torch.channels_last)
    optimizer = build(learner, rules, config.optimizer)
    times = []
    for step in range(_TIMED_STEPS + 2):
        started = time.perf_counter()
        micro = [learner.objective.prepare(m, Context(seed, step)) for m in cut(sample, parts)]
        totals, _ = total_weights(learner.objective, micro, False)
        backward(learner, micro, totals, functools.partial(autocast, precision, device))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])
