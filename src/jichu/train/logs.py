"""Logged rows: kept as tensors until a line is due, so that no step waits for a number."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from jichu.core.ranks import sum_over_ranks, world_size


class Means:
    """Running sums of named scalars, read out as means."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Count one step."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, as numbers."""
        return {"count": self._count, "sums": {n: float(t) for n, t in self._sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from earlier sums."""
        self._count = state["count"]
        self._sums = {n: torch.tensor(value) for n, value in state["sums"].items()}

    def read(self) -> dict[str, float]:
        """The means since the last reading, over all processes."""
        if not self._count:
            return {}
        stacked = sum_over_ranks(torch.stack([s.float() for s in self._sums.values()]))
        means = (stacked / (self._count * world_size())).tolist()
        names = list(self._sums)
        self._sums, self._count = {}, 0
        return dict(zip(names, means, strict=True))


class Clock:
    """Where the time of a training goes: seconds by phase, since the last reading and in all."""

    def __init__(self, totals: dict[str, float] | None = None) -> None:
        self.totals = dict(totals or {})
        self._phases: dict[str, float] = {}
        self._last = self._start = time.perf_counter()

    def lap(self, phase: str) -> None:
        """The time since the last lap belongs to `phase`."""
        now = time.perf_counter()
        for counts in (self._phases, self.totals):
            counts[phase] = counts.get(phase, 0.0) + now - self._last
        self._last = now

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds since the last reading, and the share of each phase in them."""
        total = max(time.perf_counter() - self._start, 1e-9)
        shares = {name: spent / total for name, spent in self._phases.items()}
        self._phases, self._start = {}, time.perf_counter()
        return total, shares
