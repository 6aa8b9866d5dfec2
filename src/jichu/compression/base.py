"""The protocol: a step changes a model before it is trained again, goes along with the training, and ends it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jichu.adapt.rules import Rules
from jichu.core.errors import UsageError, nearest
from jichu.models.adapters import layers
from jichu.models.folder import ModelConfig
from jichu.models.model import Model
from jichu.objectives.base import Batch, Context, Objective
from jichu.objectives.wrapper import Wrapper

Amount = Annotated[float, Field(gt=0, lt=1)]  # the share that is taken away
Until = Annotated[float, Field(gt=0, le=1)]  # the share of the training after which that is done
BACKBONE = "backbone."


@dataclass
class Subject:
    """What is compressed: the model, how it is built, what it learns by, and a few training batches, always the same."""

    model: Model
    config: ModelConfig
    objective: Objective
    batches: Callable[[], list[Batch]]
    seed: int = 0


class Step:
    """Base of every step; the keyword arguments of `__init__` are its settings.

    `structural` says that layers are other ones afterwards: such steps come before one that `holds` weights. `gradual`
    ones go on while the model is trained, so that its weights on the way are none to go back to. One that `trains` comes
    to nothing without. One that `looks` learns from training rows before that. One that `replaces` the model leaves
    nothing of what was before.
    """

    name: str
    structural = False
    holds = False
    gradual = False
    trains = False
    looks = False
    replaces = False
    remark = ""  # what it does not do, that one might expect

    def meet(self, subject: Subject) -> None:
        """See the model as it is before all steps. UsageError where the step does not suit it."""

    def begin(self, subject: Subject) -> None:
        """Change the model, in place or for another, and tell its configuration."""

    def around(self, objective: Objective) -> Objective:
        """What the model is trained by."""
        return objective

    def rates(self) -> Rules:
        """Factors of the learning rate, of parameters that the step brought along."""
        return []

    def after_step(self, context: Context) -> None:
        """Called once after each optimizer step."""

    def end(self, trained: bool) -> None:
        """Called once after the training, or where there is none."""


class Retrained(Wrapper):
    """The objective, with what steps do after each step of the optimizer."""

    def __init__(self, inner: Objective, steps: list[Step]):
        super().__init__(inner)
        self.steps = steps

    def after_step(self, model: nn.Module, context: Context) -> None:
        super().after_step(model, context)
        for step in self.steps:
            step.after_step(context)


def chosen(model: nn.Module, pattern: str | None, step: str) -> dict[str, nn.Module]:
    """The dense layers and convolutions of the backbone, those whose whole name matches a pattern. UsageError where there
    is none."""
    plain = set(layers(model).values())
    names = [
        name for name, layer in model.named_modules()
        if name.startswith(BACKBONE) and (name in plain or is_on(layer))
    ]  # fmt: skip
    if not names:
        raise UsageError(
            f"{step}: {type(getattr(model, 'backbone', model)).__name__} has no dense layer and no convolution",
            where="steps", expected="a network that has: cnn, resnet18, mlp, bert-mini, …",
        )  # fmt: skip
    return {name: model.get_submodule(name) for name in matching(names, pattern, step)}


def matching(names: list[str], pattern: str | None, step: str) -> list[str]:
    """Those that a pattern matches as a whole; all, without one."""
    try:
        found = names if pattern is None else [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is not a regular expression: {error}", where=f"{step}.layers"
        ) from None
    if not found:
        raise UsageError(
            f"the pattern {pattern!r} matches no layer", where=f"{step}.layers",
            expected=f"a pattern for names such as {', '.join(names[:3])}", nearest=nearest(pattern or "", names),
        )  # fmt: skip
    return found


class OnWeight(nn.Module):
    """What stands between a weight as it is learned and as it is used, until `fold`."""

    def forward(self, weight: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.forward")


def put_on(layer: nn.Module, way: OnWeight) -> None:
    """Let a layer use its weight so."""
    parametrize.register_parametrization(layer, "weight", way, unsafe=True)


def is_on(layer: nn.Module) -> bool:
    """Whether such stands on a layer's weight."""
    ways = getattr(layer, "parametrizations", {})
    return "weight" in ways and any(isinstance(way, OnWeight) for way in ways["weight"])


def fold(model: nn.Module) -> None:
    """The weights as they are used become the weights."""
    for layer in [layer for layer in model.modules() if is_on(layer)]:
        parametrize.remove_parametrizations(layer, "weight")


def ramp(context: Context, until: float) -> float | None:
    """How much of the whole is to be taken away by now, 0 to 1: fast at first and then ever slower, 1 - (1 - t)³ (Zhu and
    Gupta, 2017, arXiv 1710.01878). About a hundred times on the way; None where nothing is to be done."""
    done, last = context.step + 1, max(1, round(until * context.steps))
    if done > last or (done < last and done % max(1, last // 100)):
        return None
    return 1 - (1 - done / last) ** 3
