"""Training that knows of the 8 bits that weights and the inputs of layers will be rounded to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.models import ranges
from jichu.models.cut import output_axis
from jichu.models.modes import evaluating

from .base import OnWeight, Step, Subject, chosen, matching, put_on


class Rounded(OnWeight):
    """Rounded to `bits`, each output by a step of its own, the same on both sides of zero; gradients pass as if nothing
    were. A factor for each output, such as batch normalisation's, changes the steps and nothing else, so that it may be
    folded into the weights later."""

    def __init__(self, axis: int, bits: int):
        super().__init__()
        self.axis, self.most = axis, 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        step = steps(weight.detach(), self.axis, self.most)
        zero = torch.zeros_like(step, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, step, zero, self.axis, -self.most, self.most)


def steps(weight: Tensor, axis: int, most: int) -> Tensor:
    """The step of each output [outputs], at which its largest weight is `most`."""
    other = [i for i in range(weight.ndim) if i != axis]
    return (weight.abs().amax(other) / most).clamp(min=torch.finfo(torch.float32).eps)


class QuantizationAware(Step):
    """Weights of dense layers and convolutions are rounded to `bits` for each output, and what goes into these layers to 8
    bits, in every forward pass (Jacob et al., 2018, arXiv 1712.05877). The ranges of inputs are seen on a few training
    batches first, and followed while the model is trained; they stay with the model, which goes on rounding. The head's
    layer is one of them."""

    name = "quantization-aware"
    holds = looks = True
    remark = "rounded weights are kept in 32 bits, smaller and perhaps faster once exported as int8"

    def __init__(self, bits: Literal[4, 8] = 8, layers: str | None = None):
        self.bits, self.layers = bits, layers

    def begin(self, subject: Subject) -> None:
        model = subject.model
        if subject.config.ranges:
            raise UsageError("the run's model is rounded already", where=self.name, expected="no such step")
        found = chosen(model, None, self.name) | _heads(model)
        found = {name: found[name] for name in matching(list(found), self.layers, self.name)}
        for layer in found.values():
            put_on(layer, Rounded(output_axis(layer), self.bits))
        ranges.watch(model, found)
        subject.config.ranges = list(found)
        with evaluating(model):
            for part in model.modules():
                part.training = isinstance(part, ranges.Range)
            for batch in subject.batches():
                model(batch)


def _heads(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: part for name, part in model.named_modules()
        if name.startswith("heads.") and isinstance(part, nn.Linear)
    }  # fmt: skip
