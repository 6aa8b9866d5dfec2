"""How a step is computed: precision, memory format, threads, compilation. Which is fastest is measured on
whole steps of the real model, on a copy, and remembered for this model and machine."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from jichu.adapt.rules import Rule
from jichu.core.doctor import machine_key, with_threads
from jichu.core.errors import DataError
from jichu.core.files import cache_folder, read_json, remember
from jichu.core.ranks import gather_objects, rank, world_size
from jichu.data.batches import Batch
from jichu.models.layout import FORMATS, has_layout, lay_out, plain_order
from jichu.models.packed import can_pack
from jichu.objectives.base import Context

from .config import TrainConfig
from .learner import Learner, backward, cut, total_weights
from .optimizers import build

_TIMED_STEPS = 5  # of each setting
_LONGEST = 3.0  # seconds after which fewer do
_PAYS = 0.9  # a setting less plain is chosen where a step takes at most this share of the plainer one's time
_SMALL_STEP = 0.05  # seconds below which handing work to threads may cost more than it brings
_WORTH_COMPILING = 600.0  # seconds of training; compiling takes up to half a minute
_HOPELESS = 5.0  # times the best setting's step
_FIRST = 2.0  # seconds that a first step may take
_REMEMBERED = 7 * 24 * 3600.0  # seconds


class Settings(NamedTuple):
    """Plain where nothing was measured: all threads, single precision, not compiled. `packed` is for answers alone."""

    precision: str = "float32"
    memory_format: str = "contiguous"
    threads: int = 1
    compiled: bool = False
    packed: bool = False

    def __str__(self) -> str:
        count = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        more = ["compiled"] * self.compiled + ["packed"] * self.packed
        return " ".join([self.precision, self.memory_format, count, *more])


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass runs in."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def plainest(learner: nn.Module, config: TrainConfig, device: torch.device) -> Settings:
    """What the configuration says, and the plainest where it leaves the choice."""
    memory_format = plain_order(device) if config.memory_format == "auto" else config.memory_format
    return Settings(
        "float32" if config.precision == "auto" else config.precision,
        memory_format if has_layout(learner) else "contiguous",
        torch.get_num_threads() if config.threads == "auto" else config.threads,
        config.compile is True,
    )


def is_open(learner: nn.Module, config: TrainConfig, device: torch.device) -> bool:
    """Whether anything is left to be measured."""
    return (
        config.precision == "auto"
        or (config.compile == "auto" and device.type != "cpu")
        or (config.memory_format == "auto" and has_layout(learner))
        or (config.threads == "auto" and torch.get_num_threads() > 1)
    )


Measure = Callable[[Settings, float], float]  # seconds a step; given up where one takes far longer than that


def choose(
    learner: nn.Module, config: TrainConfig, device: torch.device, measure: Measure, seconds: Callable[[float], float],
    *, answers: bool = False,
) -> tuple[Settings, dict[Settings, float]]:  # fmt: skip
    """The fastest settings, one question after the other, and what was measured. `seconds(step)` is how
    long the training lasts with steps of that length; `answers` says that there is none, only answers are wanted."""
    start = plainest(learner, config, device)
    found: dict[Settings, float] = {}

    def best(current: Settings, *others: Settings) -> Settings:
        for setting in (current, *others):
            if setting not in found:
                limit = found.get(current, math.inf)
                found[setting] = measure(setting, limit)
            if found[setting] < _PAYS * found[current]:
                current = setting
        return current

    precisions = ["float32", "bfloat16"] if config.precision == "auto" else [start.precision]
    formats = [start.memory_format]
    if config.memory_format == "auto" and has_layout(learner):
        formats += [name for name in FORMATS if name != start.memory_format]
    pairs = itertools.product(precisions, formats)
    chosen = best(*(start._replace(precision=p, memory_format=f) for p, f in pairs))
    if answers and chosen.precision == "float32" and can_pack(learner):
        chosen = best(chosen, chosen._replace(packed=True))
    while config.threads == "auto" and chosen.threads > 1 and found[chosen] < _SMALL_STEP:
        fewer = best(chosen, chosen._replace(threads=chosen.threads // 2))
        if fewer == chosen:
            break
        chosen = fewer
    # what is compiled for a processor brings a tenth, and was seen to write past its memory (torch 2.13)
    compiles = config.compile == "auto" and device.type != "cpu" and world_size() == 1
    if compiles and seconds(found[chosen]) > _WORTH_COMPILING:
        with contextlib.suppress(Exception):  # no compiler here, or a model that it cannot take
            chosen = best(chosen, chosen._replace(compiled=True))
    return chosen, found


def agreed(seconds: float) -> float:
    """What the slowest process took. Each must see the same times: those who decide differently whether to
    take one more step, in which they talk to each other, wait for each other for ever."""
    return max(gather_objects(seconds))


def is_hopeless(times: list[float], limit: float) -> bool:
    """Whether the last time shows that a setting need not be tried any longer. What is loaded and compiled at
    the first use makes the first one long."""
    return times[-1] > _HOPELESS * limit and (len(times) > 1 or times[-1] > _FIRST)


def seconds_per_step(
    learner: Learner, sample: Batch, config: TrainConfig, rules: dict[str, Rule], seed: int,
    device: torch.device, settings: Settings, limit: float, of: Callable[[list[float]], float], parts: int,
) -> float:  # fmt: skip
    """The time of a few whole steps on a copy, each in so many micro-batches, after two that do not count: the
    best of two at least, for other work on the machine makes the others longer, or the median, for what is to
    be expected.
    A step that takes many times the `limit` is the only one."""
    learner = copy.deepcopy(learner)
    lay_out(learner, settings.memory_format)
    optimizer = build(learner, rules, config.optimizer, settings.precision)
    module: nn.Module = cast(Any, torch.compile(learner)) if settings.compiled else learner
    inside = functools.partial(autocast, settings.precision, device)
    times: list[float] = []
    with with_threads(settings.threads):
        while len(times) < 2 + _TIMED_STEPS and (len(times) < 4 or sum(times[1:]) < _LONGEST):
            started = time.perf_counter()
            context = Context(seed, len(times))
            micro = [learner.objective.prepare(part, context) for part in cut(sample, parts)]
            backward(module, micro, total_weights(learner.objective, micro, False)[0], inside)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(agreed(time.perf_counter() - started))
            if is_hopeless(times, limit):
                return times[-1]
    return of(times[2:])


class Remembered:
    """What was found fastest for a model on a machine, in the cache folder."""

    def __init__(self, learner: nn.Module, sample: Batch, config: TrainConfig, device: torch.device):
        asked = (config.precision, config.memory_format, config.threads, config.compile, config.accumulate)
        parameters = [(n, tuple(p.shape), p.requires_grad) for n, p in learner.named_parameters()]
        batch = sorted((n, tuple(t.shape), str(t.dtype)) for n, t in sample.items())
        key = machine_key(
            str(device), torch.get_num_threads(), world_size(), repr(learner), parameters, batch, asked,
            config.optimizer.name,
        )  # fmt: skip
        self.path = cache_folder() / "plans" / f"{key}.json"

    def recall(self) -> tuple[Settings, str] | None:
        """The settings and when they were measured, where that is not long ago; as the first process
        has them."""
        found = None
        with contextlib.suppress(OSError, DataError, KeyError, TypeError):
            if 0 <= time.time() - self.path.stat().st_mtime < _REMEMBERED:
                kept = read_json(self.path)
                found = Settings(**kept["settings"]), kept["why"]
        return gather_objects(found)[0]

    def keep(self, settings: Settings, why: str) -> None:
        """Remember."""
        if rank() == 0:
            remember(self.path, {"settings": settings._asdict(), "why": why})
