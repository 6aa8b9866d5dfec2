"""How large a graph is and how fast ONNX Runtime runs it here, beside another one at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jichu.metrics.intervals import Interval

from .export.base import Arrays
from .figures import Figures
from .onnx_model import ask, session

_WARM = 2  # calls that do not count
_LEAST, _SECONDS = 3, 0.1  # calls of a round, and how long it takes
_RESAMPLES = 1000


@dataclass(frozen=True)
class Inputs:
    """Rows for timing: some alone, and a batch."""

    alone: Sequence[Arrays]
    batch: Arrays

    @property
    def rows(self) -> int:
        """Of the batch."""
        return len(next(iter(self.batch.values())))


@dataclass(frozen=True)
class Measured(Figures):
    """Bytes of the file; milliseconds for one row, the median over rounds and the 90th percentile of all calls; rows a second
    in batches. Ratios are to the graph that was timed beside it: of size a share, of the other two how many times faster,
    the median of the rounds' own. Intervals are over rounds."""

    size_bytes: int
    size_ratio: float
    latency_ms: Interval
    latency_p90_ms: float
    latency_ratio: Interval
    rows_per_second: Interval
    throughput_ratio: Interval
    batch_size: int
    threads: int
    rounds: int


def available() -> int:
    """Threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(graphs: Sequence[Path], inputs: Inputs, *, threads: int, rounds: int = 9) -> list[Measured]:
    """Time graphs in turns, A B A B …, so that what disturbs the machine disturbs all; ratios are to the first. In each of
    the `rounds` each is called for a tenth of a second with rows alone, and as long with a batch."""
    opened = [session(graph, threads) for graph in graphs]
    single: list[list[list[float]]] = [[] for _ in graphs]
    many: list[list[list[float]]] = [[] for _ in graphs]
    for _ in range(rounds):
        for i, graph in enumerate(opened):
            single[i].append(_times(graph, inputs.alone))
            many[i].append(_times(graph, [inputs.batch]))
    alone, together = (
        np.array([[np.median(times) for times in each] for each in of]) for of in (single, many)
    )
    sizes = [graph.stat().st_size for graph in graphs]
    return [
        Measured(
            size_bytes=sizes[i], size_ratio=sizes[i] / sizes[0],
            latency_ms=_median(1e3 * alone[i]), latency_p90_ms=1e3 * float(np.quantile(np.concatenate(single[i]), 0.9)),
            latency_ratio=_median(alone[0] / alone[i]), rows_per_second=_median(inputs.rows / together[i]),
            throughput_ratio=_median(together[0] / together[i]), batch_size=inputs.rows, threads=threads, rounds=rounds,
        )
        for i in range(len(graphs))
    ]  # fmt: skip


def _times(graph: Any, given: Sequence[Arrays]) -> list[float]:
    """Of each call; the inputs in turns."""
    for i in range(_WARM):
        ask(graph, given[i % len(given)])
    found: list[float] = []
    clock: Callable[[], float] = time.perf_counter
    end = clock() + _SECONDS
    while len(found) < _LEAST or clock() < end:
        started = clock()
        ask(graph, given[len(found) % len(given)])
        found.append(clock() - started)
    return found


def _median(values: np.ndarray) -> Interval:
    """The median of rounds [R], with the percentile bootstrap's interval."""
    picked = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    return Interval.of(float(np.median(values)), np.median(values[picked], axis=1))
