"""Pruning by magnitude: the smallest weights become zero."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import prune

from jichu.objectives.base import Context

from .base import Amount, OnWeight, Step, Subject, Until, chosen, put_on, ramp


class Masked(OnWeight):
    """Zero where the mask is."""

    mask: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


class Magnitude(Step):
    """A share `amount` of the weights of dense layers and convolutions becomes zero: the smallest of each layer, or with
    `scope: global` of all together (Han et al., 2015, arXiv 1506.02626). Where the model is trained again they go one
    after another until the share `until` of the steps, and stay away."""

    name = "magnitude"
    holds = gradual = True
    remark = "zeros in dense matrices are smaller when packed (gzip), not faster"

    def __init__(
        self,
        amount: Amount,
        scope: Literal["layer", "global"] = "layer",
        until: Until = 0.75,
        layers: str | None = None,
    ):
        self.amount, self.scope, self.until, self.layers = amount, scope, until, layers
        self.masked: list[Any] = []

    def begin(self, subject: Subject) -> None:
        self.masked = list(chosen(subject.model, self.layers, self.name).values())
        for layer in self.masked:
            put_on(layer, Masked(layer.weight))

    def after_step(self, context: Context) -> None:
        share = ramp(context, self.until)
        if share is not None:
            self._mask(share * self.amount)

    def end(self, trained: bool) -> None:
        if not trained:
            self._mask(self.amount)

    @torch.no_grad()
    def _mask(self, amount: float) -> None:
        pairs = [(layer.parametrizations.weight.original, _mask_of(layer)) for layer in self.masked]
        if self.scope == "layer":
            for weight, mask in pairs:
                mask.copy_(smallest_left_out(weight.abs(), amount))
            return
        together = smallest_left_out(torch.cat([weight.abs().flatten() for weight, _ in pairs]), amount)
        for part, (_, mask) in zip(together.split([m.numel() for _, m in pairs]), pairs, strict=True):
            mask.copy_(part.view_as(mask))


def _mask_of(layer: Any) -> Tensor:
    return next(way.mask for way in layer.parametrizations.weight if isinstance(way, Masked))


def smallest_left_out(scores: Tensor, amount: float) -> Tensor:
    """True but for the smallest share of some scores, to the nearest number of them, as torch's own pruning has it."""
    method = prune.L1Unstructured(amount=round(amount * scores.numel()))
    scores = scores.contiguous()  # which torch's wants
    return method.compute_mask(scores, torch.ones_like(scores)).bool()
