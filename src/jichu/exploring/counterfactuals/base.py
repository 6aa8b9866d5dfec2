"""What of an input can be changed, whatever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from jichu.data.given import Inputs
from jichu.data.source import Column

from ..seen import Seen
from .search import Asking, Edit, smallest

_AT_ONCE = 2**22  # bytes of changed inputs that are held together


class Changing(ABC):
    """One input, its places and their alternatives; each time it is changed that takes so many bytes."""

    def __init__(self, seen: Seen, size: int):
        self.seen, self.run = seen, seen.run
        self._at_once = max(1, _AT_ONCE // max(1, size))

    @abstractmethod
    def options(self) -> list[tuple[int, int]]:
        """Single changes; of more than can be tried an even sample is."""

    @abstractmethod
    def inputs(self, edits: list[Edit]) -> Inputs:
        """What the model reads of the input when it is changed; {} leaves it as it is."""

    @abstractmethod
    def changes(self, edit: Edit) -> list[dict[str, Any]]:
        """What is changed, in words."""

    @abstractmethod
    def changed(self, edit: Edit) -> dict[str, Any]:
        """The input as it is then, ready for JSON."""

    def candidates(self, ask: Asking) -> Iterator[Edit]:
        """Edits that flip and of which nothing can be taken back."""
        options = self.options()
        some = np.unique(np.linspace(0, len(options) - 1, min(len(options), ask.most // 2)).astype(int))
        if (found := smallest(ask, [options[i] for i in some], self.cost)) is not None:
            yield found

    def cost(self, edit: Edit) -> float:
        """How large the changes are."""
        return float(len(edit))

    def scores(self, key: str, edits: list[Edit]) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities [n, K] of a target, rules kept; and which edits break no rule that the input keeps. The model
        is asked about a piece of them after the other."""
        cuts = range(0, len(edits), self._at_once)
        scores, allowed = zip(*(self._scores(key, edits[i : i + self._at_once]) for i in cuts), strict=True)
        return np.concatenate(scores), np.concatenate(allowed)

    def _scores(self, key: str, edits: list[Edit]) -> tuple[np.ndarray, np.ndarray]:
        given = self.inputs(edits)
        found, rules = self.run.scores(given), self.run.rules
        if not rules:
            return found[key], np.ones(len(edits), bool)
        columns: Mapping[str, Column] = rules.inputs(given.columns)
        decision = rules.decide(found, columns)
        broken = np.stack(
            [decision.fired[r.name] for r in rules.rules if not r.enforced] or [np.zeros(len(edits), bool)]
        )
        return decision.answers[key], ~(broken & ~self._broken[:, None]).any(0)

    @cached_property
    def _broken(self) -> np.ndarray:
        """Which rules that are not enforced the input breaks as it is."""
        given, rules = self.inputs([{}]), self.run.rules
        decision = rules.decide(self.run.scores(given), rules.inputs(given.columns))
        flagged = [bool(decision.fired[r.name][0]) for r in rules.rules if not r.enforced]
        return np.array(flagged or [False])
