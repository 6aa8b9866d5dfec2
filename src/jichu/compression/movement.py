"""Pruning by movement: what training pushes towards zero becomes zero."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.adapt.rules import Rules
from jichu.objectives.base import Context

from .base import Amount, OnWeight, Step, Subject, Until, chosen, put_on, ramp


class Scored(OnWeight):
    """Zero but for the share `kept` with the highest scores. The scores are learned as if the mask were the scores
    themselves (straight through), so that each sums up how far its weight was pushed away from zero."""

    kept: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight))
        self.register_buffer("kept", torch.tensor(1.0))

    def mask(self) -> Tensor:
        """1 for the top scores, else 0."""
        flat = self.scores.detach().flatten()
        count = round(float(self.kept) * flat.numel())
        return torch.zeros_like(flat).index_fill_(0, flat.topk(count).indices, 1.0).view_as(self.scores)

    def forward(self, weight: Tensor) -> Tensor:
        straight = self.scores - self.scores.detach()  # nothing, with a gradient
        return weight * (self.mask() + straight)


class Movement(Step):
    """A share `amount` of each layer's weights becomes zero: those that fine-tuning moves towards zero, whatever their
    size (Sanh et al., 2020, arXiv 2005.07683, with a share for each layer). It suits networks that were trained for
    something else before, where small weights are not those that the task does without. Scores learn at `rate` times
    the rate of the weights."""

    name = "movement"
    holds = gradual = trains = True
    remark = "zeros in dense matrices are smaller when packed (gzip), not faster"

    def __init__(
        self,
        amount: Amount,
        until: Until = 0.75,
        rate: Annotated[float, Field(gt=0)] = 100.0,
        layers: str | None = None,
    ):
        self.amount, self.until, self.rate, self.layers = amount, until, rate, layers
        self.scored: list[Scored] = []

    def begin(self, subject: Subject) -> None:
        for layer in chosen(subject.model, self.layers, self.name).values():
            self.scored.append(Scored(layer.weight))  # type: ignore[arg-type]
            put_on(layer, self.scored[-1])

    def rates(self) -> Rules:
        return [(r".*\.parametrizations\.weight\.\d+\.scores", self.rate)]

    def after_step(self, context: Context) -> None:
        share = ramp(context, self.until)
        if share is not None:
            for each in self.scored:
                each.kept.fill_(1 - share * self.amount)
