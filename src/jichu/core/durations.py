"""How long something lasts: `90s`, `10m`, `1.5h`, `3 epochs`, `2000 steps`, `50M tokens`."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from .errors import UsageError, shown

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
_ENDLESS = 1e15  # of any unit
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMB]?)\s*(s|m|h|epochs?|steps?|tokens?)\s*")


class Duration(NamedTuple):
    """`unit` is seconds, epochs, steps or tokens."""

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises UsageError for anything not of the forms above."""
        match = _FORM.fullmatch(str(text))
        if match is None:
            raise UsageError(
                f"{shown(text)} is not a duration",
                expected="a form like 10m, 90s, 3 epochs, 2000 steps or 50M tokens",
            )
        number, multiple, unit = match.groups()
        value = float(number) * _MULTIPLES[multiple]
        if not 0 < value < _ENDLESS:
            raise UsageError(f"{shown(text)} lasts no time, or for ever", expected="more than zero")
        if unit in _SECONDS:
            return cls(value * _SECONDS[unit], "seconds")
        return cls(value, unit if unit.endswith("s") else unit + "s")

    def steps(
        self,
        *,
        steps_per_epoch: int,
        seconds_per_step: float | None = None,
        tokens_per_step: int | None = None,
    ) -> int:
        """Optimizer steps, at least one. Seconds need a measured `seconds_per_step`, tokens their number."""
        if self.unit == "steps":
            count = self.value
        elif self.unit == "epochs":
            count = self.value * steps_per_epoch
        elif self.unit == "seconds":
            if seconds_per_step is None:
                raise UsageError("a budget in time needs a measured step", expected="seconds_per_step")
            count = self.value / seconds_per_step
        elif tokens_per_step is not None:
            count = self.value / tokens_per_step
        else:
            raise UsageError(
                f"a budget in {self.unit} needs data made of {self.unit}",
                expected="steps, epochs or a time",
            )
        return max(1, math.floor(count + 1e-9))
