"""Mean teacher (Tarvainen and Valpola, 2017, arXiv 1703.01780): agree with a moving average of oneself."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from jichu.models.averaging import follow

from .base import Batch, Context, Objective
from .taught import Momentum
from .unlabelled import Consistency, Ratio, Share, Weight


class MeanTeacher(Consistency):
    """The squared distance between the network's probabilities and its teacher's, of every row, with a label or not; each
    sees a view of its own.

    The teacher's weights go towards the network's by 1 - momentum after each step, by more in the first ones. The
    paper's weight of 100 on ten classes, of the mean over these, is 10 here.
    """

    name = "mean-teacher"

    def __init__(
        self,
        inner: Objective,
        momentum: Momentum = 0.99,
        ratio: Ratio = 1,
        weight: Weight = 10.0,
        ramp: Share = 0.5,
    ):
        super().__init__(inner, ratio, weight, ramp)
        self.momentum = momentum
        self.teacher = nn.ModuleDict()

    def asked(self, batch: Batch) -> Tensor:
        return torch.ones_like(batch["row"], dtype=torch.bool)

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        self.teacher = nn.ModuleDict({"model": copy.deepcopy(model)}).requires_grad_(False)

    def teacher_of(self, model: nn.Module) -> nn.Module:
        teacher = self.teacher["model"]
        for mine, theirs in zip(teacher.modules(), model.modules(), strict=True):
            mine.training = theirs.training  # what is frozen is so in both
        return teacher

    def unsupervised_loss(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        mine, theirs = (x.softmax(1) for x in (outputs[self.target].float(), self.taught(outputs)))
        return (mine - theirs).square().sum(1)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Also the share of the rows on whose class both agree."""
        same = outputs[self.target].argmax(1) == self.taught(outputs).argmax(1)
        return {**super().diagnose(outputs, batch), "agreement": same.float().mean()}

    def after_step(self, model: nn.Module, context: Context) -> None:
        super().after_step(model, context)
        follow(self.teacher["model"], model, max(1 - self.momentum, 1 / (context.step + 2)))
