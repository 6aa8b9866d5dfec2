"""Learning what rules say, beside what labels say: a penalty for each rule that answers are likely to break."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.constraints.classes import Group
from jichu.constraints.columns import Columns, cut
from jichu.constraints.rule import Bound, Rule
from jichu.constraints.rulebook import Rules
from jichu.data import conditions
from jichu.data.source import Column
from jichu.data.target import Target

from .base import Batch, Losses, Objective, as_terms, row_weight
from .wrapper import Wrapper

Outputs = Mapping[str, Tensor]
Targets = Mapping[str, Target]
_SIGNS = {"<": (1,), "<=": (1,), ">": (-1,), ">=": (-1,), "==": (1, -1)}


class Ruled(Wrapper):
    """Beside the inner objective's terms one for each rule with a penalty, of rows with label and without: `Unlikely` of
    classes, `Outside` of numbers. `inputs` are the columns of all rows of a data set, in which a batch's `row` is a
    place; `targets` tell in what units a head gives numbers."""

    def __init__(self, inner: Objective, rules: Rules, inputs: Columns, targets: Targets):
        super().__init__(inner)
        wanted = [rule for rule in rules.rules if rule.penalty]
        self._penalties = {f"rules/{rule.name}": rule.penalty for rule in wanted}
        self.rules = nn.ModuleList(
            (Outside if rule.numbers else Unlikely)(rule, inputs, targets) for rule in wanted
        )

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {**super().weights(batch), **dict.fromkeys(self._penalties, row_weight(batch))}

    def scales(self) -> Mapping[str, float | Tensor]:
        return {**super().scales(), **self._penalties}

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        # of several targets each objective's outputs stand under its own
        heads = {key: found[key] if isinstance(found, dict) else found for key, found in outputs.items()}
        told = [rule(heads, batch["row"]) for rule in self.rules]
        return {**as_terms(super().losses(outputs, batch)), **dict(zip(self._penalties, told, strict=True))}


class Combinations(nn.Module):
    """How likely are the combinations of the classes that a rule speaks of, heads being independent, and of which
    something holds: in each row, or `which` is alone in all. What is alike is kept once."""

    codes: Tensor
    patterns: Tensor
    which: Tensor

    def __init__(self, rule: Rule, inputs: Columns, targets: Targets, holds: Callable[[Columns], np.ndarray]):
        super().__init__()
        group = Group([rule], targets)
        self.keys, count = group.keys, len(group.codes)
        mine = {name: inputs[name] for name in rule.inputs}
        bits = []
        for piece in group.pieces(mine):
            part = cut(mine, piece)
            rows = len(next(iter(part.values())).values) if part else 1
            bits.append(np.packbits(np.broadcast_to(holds(group.over(part)), (rows, count)), axis=1))
        packed, which = np.unique(np.concatenate(bits), axis=0, return_inverse=True)
        patterns = np.unpackbits(packed, axis=1, count=count).astype(bool)
        for name, values in (("codes", group.codes), ("patterns", patterns), ("which", which.reshape(-1))):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def holds(self, rows: Tensor) -> Tensor:
        """bool [B, C] of some rows."""
        return self.patterns[self.which[rows % len(self.which)]]

    def logs(self, outputs: Outputs, rows: Tensor) -> Tensor:
        """The logarithm [B, C] of the probability of each combination."""
        joint = torch.zeros(len(rows), len(self.codes), device=rows.device)
        for key, codes in zip(self.keys, self.codes.T, strict=True):
            joint = joint + torch.log_softmax(outputs[key].float(), 1)[:, codes]
        return joint


class Unlikely(nn.Module):
    """Minus the logarithm of the probability that classes keep a rule (semantic loss: Xu et al., 2018, arXiv
    1711.11157); nothing on rows where none do."""

    def __init__(self, rule: Rule, inputs: Columns, targets: Targets):
        super().__init__()
        self.kept = Combinations(rule, inputs, targets, lambda columns: ~rule.truth(columns).no)

    def forward(self, outputs: Outputs, rows: Tensor) -> Tensor:
        """Row losses [B]."""
        holds = self.kept.holds(rows)
        holds = holds | ~holds.any(1, keepdim=True)
        return -self.kept.logs(outputs, rows).masked_fill(~holds, -math.inf).logsumexp(1)


class Outside(nn.Module):
    """How far numbers are outside the bounds that a rule sets them, times the probability that its condition holds."""

    def __init__(self, rule: Rule, inputs: Columns, targets: Targets):
        super().__init__()
        self.applies = Combinations(rule, inputs, targets, lambda columns: rule.applies(columns).yes)
        self.limits = nn.ModuleList(Limit(bound, inputs, targets) for bound in rule.bounds)

    def forward(self, outputs: Outputs, rows: Tensor) -> Tensor:
        """Row losses [B]."""
        likely = (self.applies.logs(outputs, rows).exp() * self.applies.holds(rows)).sum(1)
        return likely * torch.stack([limit(outputs, rows) for limit in self.limits]).sum(0)


class Limit(nn.Module):
    """How far a number, or on average its quantiles, is on the wrong side of a value, a column or another number, in
    deviations of the number; nothing where that is not known."""

    values: Tensor

    def __init__(self, bound: Bound, inputs: Columns, targets: Targets):
        super().__init__()
        self.key, self.signs, self.target = bound.key, _SIGNS[bound.sign], targets[bound.key]
        others = {target.column: key for key, target in targets.items() if target.task == "regression"}
        self.other = others.get(bound.operand.text)
        number = Column("number", np.empty(0))
        columns = {**inputs, **dict.fromkeys(others, number)}
        values, there = conditions.side(number, bound.column, bound.operand, columns, "rules")
        known = np.where(there, values, np.nan).reshape(-1).astype(np.float32)
        self.register_buffer("values", torch.from_numpy(known), persistent=False)
        self.others = targets[self.other] if self.other else None

    def forward(self, outputs: Outputs, rows: Tensor) -> Tensor:
        """[B]."""
        found = outputs[self.key].float().reshape(len(rows), -1)
        wanted = self._wanted(outputs, rows)
        beyond = found - ((wanted - self.target.mean) / self.target.std)[:, None]
        beyond = torch.where(wanted.isnan()[:, None], 0.0, beyond)
        return sum(F.relu(sign * beyond) for sign in self.signs).mean(1)  # type: ignore[union-attr]

    def _wanted(self, outputs: Outputs, rows: Tensor) -> Tensor:
        """The other side [B], in the number's own units."""
        if self.other is None or self.others is None:
            return self.values[rows % len(self.values)]
        found = outputs[self.other].float().reshape(len(rows), -1)[:, self.others.point]
        return found * self.others.std + self.others.mean
