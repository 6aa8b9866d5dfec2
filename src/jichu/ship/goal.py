"""What a smaller model is to reach: a share of the size, a multiple of the speed, or a latency."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from jichu.core.errors import UsageError, nearest

from .measured import Measured

_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_FORMS = "size=0.25, speed=2 or latency=5ms"


@dataclass(frozen=True)
class Goal:
    """`size`: at most such a share of the bytes of the float32 graph; `speed`: at least so many times its rows a second;
    `latency`: at most so many milliseconds for one row."""

    kind: str
    bound: float

    def share(self, found: Measured) -> float:
        """How much of it is reached; 1 or more where it is met."""
        if self.kind == "size":
            return self.bound / found.size_ratio
        if self.kind == "speed":
            return found.throughput_ratio.value / self.bound
        return self.bound / found.latency_ms.value

    def met(self, found: Measured) -> bool:
        """Whether it is reached."""
        return self.share(found) >= 1

    def __str__(self) -> str:
        return f"{self.kind}={self.bound:g}{'ms' if self.kind == 'latency' else ''}"


def goal(text: str) -> Goal:
    """`size=0.25`, `speed=2`, `latency=5ms`. UsageError for anything else."""
    kind, equals, value = str(text).replace(" ", "").partition("=")
    if kind not in ("size", "speed", "latency") or not equals:
        raise UsageError(
            f"no target {text!r}", where="--target", expected=f"one of {_FORMS}",
            nearest=nearest(kind, ("size", "speed", "latency")),
        )  # fmt: skip
    found = re.fullmatch(r"(\d*\.?\d+(?:e[+-]?\d+)?)(us|ms|s)?", value)
    number, unit = (float(found[1]), found[2]) if found else (math.nan, None)
    wrong = {
        "size": (unit is not None or not 0 < number < 1, "a share between 0 and 1, such as size=0.25"),
        "speed": (
            unit is not None or not 1 < number < math.inf,
            "a multiple over 1 of the speed, such as speed=2",
        ),
        "latency": (unit is None or not 0 < number < math.inf, "a time with its unit, such as latency=5ms"),
    }
    bad, expected = wrong[kind]
    if bad:
        raise UsageError(f"a {kind} of {value!r}", where="--target", expected=expected)
    return Goal(kind, number * _MILLISECONDS.get(unit or "", 1.0))
