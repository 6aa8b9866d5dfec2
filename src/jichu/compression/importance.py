"""What channels, neurons and heads are worth, and which of them are worth least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jichu.data.batches import Batch
from jichu.models.cut import output_axis
from jichu.models.model import Model
from jichu.models.modes import keeping_modes
from jichu.objectives.base import Context
from jichu.train.learner import Learner, total_weights

from .base import Subject
from .tracing import Traced, Unit

Weigh = Callable[[Unit], Tensor]
Scores = dict[tuple[str, ...], Tensor]  # of the units of each family


def _by_block(values: Tensor, layer: Any, width: int) -> Tensor:
    """The sum over the weights of each block of outputs [blocks]."""
    return values.movedim(output_axis(layer), 0).flatten(1).sum(1).view(-1, width).sum(1)


def l1(model: Model, found: Traced) -> Weigh:
    """The L1 norm of the weights of a unit's outputs, in units of their layer's mean; of several layers the mean."""
    layers: dict[str, Any] = dict(model.named_modules())
    norms: dict[str, Tensor] = {}
    for name, width in found.widths.items():
        norm = _by_block(layers[name].weight.detach().abs(), layers[name], width)
        norms[name] = norm / norm.mean().clamp(min=1e-12)
    return lambda unit: torch.stack([norms[name][block] for name, block in unit.outputs]).mean()


def taylor(subject: Subject, found: Traced, batches: list[Batch]) -> Weigh:
    """(Σ gradient × weight)² of the weights of a unit's outputs, summed over batches: the square of what the loss would
    change by without them, to first order."""
    layers: dict[str, Any] = dict(subject.model.named_modules())
    weights = {name: layers[name].weight for name in found.widths}
    sums: dict[str, list[Tensor]] = {name: [] for name in weights}
    with keeping_modes(subject.model), torch.enable_grad():
        subject.model.eval()
        for i, batch in enumerate(batches):
            slopes = torch.autograd.grad(
                loss(subject, batch, i), list(weights.values()), materialize_grads=True, allow_unused=True
            )
            for (name, weight), slope in zip(weights.items(), slopes, strict=True):
                sums[name].append(_by_block((slope * weight).detach(), layers[name], found.widths[name]))
    changes = {name: torch.stack(each) for name, each in sums.items()}  # [batches, blocks]
    return lambda unit: (
        torch.stack([changes[name][:, block] for name, block in unit.outputs]).sum(0).square().sum()
    )


def loss(subject: Subject, batch: Batch, step: int) -> Tensor:
    """The loss of a batch, as training has it."""
    ready = subject.objective.prepare(batch, Context(subject.seed, step))
    totals, _ = total_weights(subject.objective, [ready], False)
    return Learner(subject.model, subject.objective)(ready, totals, 1)[0]


def least(scores: Scores, amount: float, scope: str) -> list[tuple[tuple[str, ...], int]]:
    """The units with the lowest scores: the whole part of a share of each family, or of all; never the best of one."""
    if scope == "layer":
        return [pair for names, score in scores.items() for pair in _least({names: score}, amount)]
    return _least(scores, amount)


def _least(scores: Scores, amount: float) -> list[tuple[tuple[str, ...], int]]:
    best = {(names, int(score.argmax())) for names, score in scores.items()}
    ranked = sorted((v, names, i) for names, score in scores.items() for i, v in enumerate(score.tolist()))
    count = int(amount * len(ranked) + 1e-9)
    return [(names, i) for _, names, i in ranked if (names, i) not in best][:count]
