"""Figures that are kept as JSON, intervals among them."""

from __future__ import annotations

from typing import Any, Self

from jichu.metrics.intervals import Interval


class Figures:
    """Base of dataclasses of figures."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {k: v._asdict() if isinstance(v, Interval) else v for k, v in vars(self).items()}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """What `plain` gave."""
        return cls(**{k: Interval(**v) if isinstance(v, dict) else v for k, v in told.items()})
