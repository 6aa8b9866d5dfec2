"""Classes that keep rules: the likeliest combination of those that do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jichu.data.source import Column
from jichu.data.target import Target

from .columns import Answers, Array, Columns, cut
from .rule import Rule, combinations

_LEAST = 1e-300  # probability, so that what a model rules out can still be compared
_ABOVE = 1 + 1e-9  # by how much the answer is above others that are as likely
_CELLS = 2**24  # rows × combinations looked at together


def together(rules: Sequence[Rule], targets: Mapping[str, Target]) -> list[Group]:
    """Rules about classes; those that share a target in one group."""
    groups: list[list[Rule]] = []
    for rule in rules:
        near = [group for group in groups if any({*rule.classes} & {*other.classes} for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), rule])
    return [Group(group, targets) for group in groups]


class Group:
    """Rules about the classes of some targets, which are decided together."""

    def __init__(self, rules: Sequence[Rule], targets: Mapping[str, Target]):
        self.rules = rules
        self.keys = [key for key in targets if any(key in rule.classes for rule in rules)]
        self.targets = targets
        self.codes = combinations(self.keys, targets, "rules")
        self.sizes = [len(targets[key].classes) for key in self.keys]

    def over(self, inputs: Columns) -> dict[str, Column]:
        """Columns of which the inputs are [N, 1], and the targets [1, C] hold each combination."""
        columns = cut(inputs, (slice(None), None))
        for key, codes in zip(self.keys, self.codes.T, strict=True):
            target = self.targets[key]
            columns[target.column] = Column("category", codes[None], target.classes)
        return columns

    def broken(self, inputs: Columns) -> Array:
        """Which combinations [N, C] break one of the rules; [1, C] where no inputs play a part."""
        columns = self.over(inputs)
        parts = [rule.truth(columns).no for rule in self.rules]
        return np.atleast_2d(np.logical_or.reduce(np.broadcast_arrays(*parts)))

    def impossible(self, inputs: Columns) -> Array:
        """The rows [N] on which every combination breaks one."""
        return np.concatenate([self.broken(cut(inputs, piece)).all(1) for piece in self.pieces(inputs)])

    def pieces(self, inputs: Columns) -> list[slice]:
        """All rows, as many at a time as memory should bear."""
        return self._pieces(max((len(c.values) for c in inputs.values()), default=1))

    def _pieces(self, count: int) -> list[slice]:
        step = max(1, _CELLS // len(self.codes))
        return [slice(start, start + step) for start in range(0, count, step)]

    def decide(self, answers: Answers, inputs: Columns) -> dict[str, Array]:
        """Answers of which the first in each row keep the rules."""
        found = {key: answers[key].copy() for key in self.keys}
        for piece in self._pieces(len(answers[self.keys[0]])):
            self._settle({key: scores[piece] for key, scores in found.items()}, cut(inputs, piece))
        return found

    def _settle(self, answers: Answers, inputs: Columns) -> None:
        """Change the rows of these (views of) answers that break a rule, where one combination keeps all."""
        count = len(next(iter(answers.values())))
        own = np.ravel_multi_index([answers[key].argmax(1) for key in self.keys], self.sizes)
        broken = np.broadcast_to(self.broken(inputs), (count, len(self.codes)))
        rows = np.flatnonzero(broken[np.arange(count), own] & ~broken.all(1))
        if not len(rows):
            return
        logs = [np.log(np.maximum(answers[key][rows], _LEAST)) for key in self.keys]
        joint = sum(log[:, codes] for log, codes in zip(logs, self.codes.T, strict=True))
        joint = np.where(broken[rows], -np.inf, joint)
        best = self.codes[joint.argmax(1)]
        cube = joint.reshape(len(rows), *self.sizes)
        for i, key in enumerate(self.keys):
            others = tuple(axis + 1 for axis in range(len(self.keys)) if axis != i)
            likeliest = cube.max(others) if others else cube
            odds = np.exp(likeliest - likeliest.max(1, keepdims=True))
            odds[np.arange(len(rows)), best[:, i]] *= _ABOVE
            answers[key][rows] = odds / odds.sum(1, keepdims=True)
