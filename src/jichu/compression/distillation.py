"""Distillation as a step: trained again, the model learns what it answered before it was changed."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import torch
from pydantic import Field

from jichu.core.config import Spec, check
from jichu.core.errors import UsageError
from jichu.core.randomness import guarded, seed_step
from jichu.data.schema import LABEL
from jichu.models.folder import ModelConfig, inputs_for
from jichu.models.model import Model
from jichu.objectives.base import Objective
from jichu.objectives.distillation import Distance, Distillation
from jichu.objectives.unlabelled import Share

from .base import Step, Subject


class Taught(Step):
    """The model as it was teaches the model as it is (Hinton et al., 2015, arXiv 1503.02531), with the temperature and
    the share `alpha` of `jichu.objectives.distillation`; `features` draws its features to the teacher's too. With a
    `student` a fresh model with that backbone takes the place of the model."""

    name = "distillation"
    trains = True

    def __init__(
        self,
        student: str | dict[str, Any] | None = None,
        temperature: Annotated[float, Field(gt=0)] = 4.0,
        alpha: Share = 0.9,
        features: Distance | None = None,
    ):
        given = {"name": student} if isinstance(student, str) else student
        self.student = None if given is None else check(Spec, given, where="distillation.student")
        self.structural = self.replaces = self.student is not None
        self.settings: dict[str, Any] = {"temperature": temperature, "alpha": alpha, "features": features}
        self.teacher: Model | None = None

    def meet(self, subject: Subject) -> None:
        targets = subject.config.targets
        target = targets.get(LABEL)
        if target is None or target.task != "classification" or len(targets) > 1:
            found = " and ".join(each.task for each in targets.values())
            raise UsageError(f"distillation of {found}", where="distillation", expected="a classifier")
        self.teacher = copy.deepcopy(subject.model)

    def begin(self, subject: Subject) -> None:
        if self.student is None:
            return
        inputs_for(self.student, _shown(subject.config), where="distillation.student")
        subject.config.backbone = self.student.model_dump()
        subject.config.changes, subject.config.ranges = [], []
        with guarded(torch.device("cpu")):
            seed_step(torch.device("cpu"), subject.seed, "student")
            student = subject.config.build()
        student.inputs.load_state_dict(subject.model.inputs.state_dict())
        subject.model = student

    def around(self, objective: Objective) -> Objective:
        assert self.teacher is not None
        return Distillation(objective, self.teacher, **self.settings)


def _shown(config: ModelConfig) -> set[str]:
    """The kinds of input that a backbone in the place of this one is given."""
    return {"image"} if config.pictured or config.spectrogram else {config.kind}
