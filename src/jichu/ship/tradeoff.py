"""Candidates for a smaller model: what each costs and loses, which one is chosen, and which are tried in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .goal import Goal
from .measured import Measured
from .scores import Compared

FLOAT = "float32"
# What costs least comes first: fewer bits, which train nothing; then less and less of the network.
BITS = ("int8-dynamic", "int8-static", "int8-weights", "int4-weights")
CUTS: tuple[dict[str, Any], ...] = (
    {"name": "structured", "amount": 0.25}, {"name": "low-rank", "amount": 0.5}, {"name": "structured", "amount": 0.5},
    {"name": "structured", "amount": 0.75},
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Steps of a compress stage, if any, and a scheme of fewer bits, if any."""

    steps: tuple[dict[str, Any], ...] = ()
    quantize: str | None = None

    @property
    def cut(self) -> str:
        """The steps by name, `structured-0.5`; nothing where there are none."""
        return "+".join("-".join(map(str, step.values())) for step in self.steps)

    @property
    def name(self) -> str:
        """Of steps and bits, `structured-0.5+int8-static`."""
        return "+".join(filter(None, (self.cut, self.quantize))) or FLOAT


def groups() -> Iterator[list[Plan]]:
    """Plans that cost about as much, from cheap to dear; the first of all is the model as it is."""
    yield [Plan(), *(Plan(quantize=bits) for bits in BITS)]
    for step in CUTS:
        yield [Plan((step,)), *(Plan((step,), bits) for bits in BITS)]


@dataclass(frozen=True)
class Candidate:
    """What became of a plan: what it costs, and what it loses beside the float32 graph of the whole model; or why it could
    not be. `run` is the run folder of a model that was changed by steps."""

    name: str
    measured: Measured | None = None
    compared: Compared | None = None
    run: str | None = None
    refused: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "run": self.run, "refused": self.refused,
            "measured": self.measured and self.measured.plain(), "compared": self.compared and self.compared.plain(),
        }  # fmt: skip

    @classmethod
    def of(cls, told: dict[str, Any]) -> Candidate:
        """What `plain` gave."""
        measured, compared = told["measured"], told["compared"]
        return cls(
            told["name"], measured and Measured.of(measured), compared and Compared.of(compared), told["run"],
            told["refused"],
        )  # fmt: skip

    @property
    def told(self) -> str:
        """What it costs and loses, in a line."""
        if self.measured is None or self.compared is None:
            return ""
        faster, lost = self.measured.throughput_ratio.value, self.compared.lost.value
        return f"{self.measured.size_ratio:.3f} of the size, {faster:.2f}× as fast, {lost:.2f} points lost"

    def reaches(self, goal: Goal, allowed: float) -> bool:
        """Whether it meets the goal and loses no more than so many points."""
        return self.measured is not None and goal.met(self.measured) and self.loses(allowed)

    def loses(self, allowed: float) -> bool:
        """Whether it loses no more than so many points."""
        return self.compared is not None and self.compared.lost.value <= allowed


def chosen(candidates: Iterable[Candidate], goal: Goal, allowed: float) -> Candidate | None:
    """Of those that reach the goal the one that loses least, where a loss whose interval holds 0 is none, and of such the
    fastest; None where none does."""
    found = [c for c in candidates if c.reaches(goal, allowed)]
    return min(found, key=_cost, default=None)


def nearest(candidates: Sequence[Candidate], goal: Goal, allowed: float) -> Candidate:
    """Of those that lose no more than is allowed the one that comes nearest to the goal; the model as it is loses nothing."""
    found = [c for c in candidates if c.measured is not None and c.loses(allowed)]
    return max(found, key=lambda c: goal.share(c.measured) if c.measured else 0)


def tried(candidates: Iterable[Candidate]) -> list[tuple[str, Measured, Compared]]:
    """Those that could be, by name, with what they cost and lose."""
    return [(c.name, c.measured, c.compared) for c in candidates if c.measured and c.compared]


def bits_of(name: str) -> str:
    """The scheme of a plan, by the plan's name."""
    last = name.rpartition("+")[2]
    return last if last in BITS else FLOAT


def _cost(candidate: Candidate) -> tuple[float, float]:
    assert candidate.compared is not None and candidate.measured is not None
    lost = candidate.compared.lost
    return lost.value if lost.low > 0 else 0.0, -candidate.measured.throughput_ratio.value
