"""Distillation (Hinton et al., 2015, arXiv 1503.02531): learn what a fitted model answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError, nearest
from jichu.data.target import Target
from jichu.models import folder

from .base import Batch, Losses, Objective, as_terms, row_weight
from .unlabelled import Share, Weight, WithUnlabelled
from .views import pooled_width

TERM, FEATURES = "distillation", "features"
Distance = Literal["cosine", "squared"]


class Distillation(WithUnlabelled):
    """alpha × T² KL(teacher ‖ student) at temperature T, of every row, with a label or not, beside 1 - alpha of what it
    goes around.

    With `features` a learnt projection of the student's pooled features is drawn to the teacher's (FitNets: Romero et
    al., 2015), by the cosine or the mean squared distance, `feature_weight` times. `teacher` is a model folder, read when
    training begins, or a module, whose classes are then in the order of the student's; it is neither trained nor saved.
    """

    name = "distillation"

    def __init__(
        self,
        inner: Objective,
        teacher: str | Path | nn.Module,
        temperature: Annotated[float, Field(gt=0)] = 4.0,
        alpha: Share = 0.9,
        features: Distance | None = None,
        feature_weight: Weight = 1.0,
        ratio: Annotated[int, Field(ge=0)] = 0,
        targets: dict[str, Target] | None = None,
    ):
        super().__init__(inner, ratio)
        self.temperature, self.alpha = temperature, alpha
        self.features, self.feature_weight = features, feature_weight
        self.known = targets
        self.order: list[int] | None = None  # where among the teacher's classes each of ours is
        self._teacher: tuple[Any] = (teacher,)  # in a tuple a module is no part of this one
        self.projection: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        (teacher,) = self._teacher
        if not isinstance(teacher, nn.Module):
            teacher = self._read(Path(teacher))
        self._teacher = (teacher.eval().requires_grad_(False).to(batch["row"].device),)
        if self.features:
            wide = self.teach(batch)["features"].pooled.shape[1]
            self.projection = nn.Linear(pooled_width(model, batch), wide).to(batch["row"].device)

    def _read(self, path: Path) -> nn.Module:
        teacher, config = folder.load(path)
        if self.known:
            self.order = class_order(config.targets.get(self.target), self.known.get(self.target))
        return teacher

    @torch.no_grad()
    def teach(self, batch: Batch) -> dict[str, Any]:
        """What the teacher makes of a batch."""
        return self._teacher[0](batch)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        outputs, taught = super().forward(model, batch), self.teach(batch)
        logits = taught[self.target]
        found = {f"{TERM}.logits": logits if self.order is None else logits[:, self.order]}
        if self.features:
            found[f"{TERM}.projected"] = self.projection(outputs["features"].pooled)
            found[f"{TERM}.features"] = taught["features"].pooled
        return {**outputs, **found}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        everyone = row_weight(batch)
        own = {TERM: everyone, FEATURES: everyone} if self.features else {TERM: everyone}
        return {**super().weights(batch), **own}

    def scales(self) -> Mapping[str, float | Tensor]:
        inner = {name: (1 - self.alpha) * scale for name, scale in {"loss": 1.0, **super().scales()}.items()}
        return {**inner, TERM: self.alpha, FEATURES: self.feature_weight}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Losses:
        mine, theirs = (
            (x.float() / self.temperature).log_softmax(1)
            for x in (outputs[self.target], outputs[f"{TERM}.logits"])
        )
        divergence = F.kl_div(mine, theirs, reduction="none", log_target=True).sum(1)
        found = {**as_terms(super().losses(outputs, batch)), TERM: self.temperature**2 * divergence}
        if self.features:
            pair = outputs[f"{TERM}.projected"].float(), outputs[f"{TERM}.features"].float()
            found[FEATURES] = (
                1 - F.cosine_similarity(*pair)
                if self.features == "cosine"
                else F.mse_loss(*pair, reduction="none").mean(1)
            )
        return found

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Also the share of the rows on whose class both agree."""
        same = outputs[self.target].argmax(1) == outputs[f"{TERM}.logits"].argmax(1)
        return {**super().diagnose(outputs, batch), "agreement": same.float().mean()}


def class_order(theirs: Target | None, mine: Target | None) -> list[int] | None:
    """Where among the teacher's classes each of the student's is; None where they are in one order, or not known.
    UsageError where they are not the same."""
    if mine is None:
        return None
    if theirs is None or theirs.task != "classification":
        found = "no classes" if theirs is None else theirs.task
        raise UsageError(f"the teacher has learnt {found}", where="wrap.teacher", expected="a classifier")
    for has, lacks, whose in ((mine, theirs, "the teacher"), (theirs, mine, "the student")):
        if strange := [name for name in has.classes if name not in lacks.classes]:
            raise UsageError(
                f"{whose} does not know {', '.join(strange[:5])}", where="wrap.teacher",
                expected=f"the same classes: {', '.join(lacks.classes[:10])}",
                nearest=nearest(strange[0], lacks.classes),
            )  # fmt: skip
    order = [theirs.classes.index(name) for name in mine.classes]
    return None if order == sorted(order) else order
