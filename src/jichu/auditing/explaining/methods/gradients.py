"""Attribution by gradients of the logit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from jichu.auditing.explaining.library import captum
from jichu.auditing.explaining.views import View

from .base import Method


def _points(view: View) -> tuple[Tensor, ...]:
    return tuple(p.detach().clone().requires_grad_() for p in view.points)


class Saliency(Method):
    """How steep the logit is (Simonyan et al., 2014, arXiv 1312.6034); of tables not, where how steep it is in a number and in
    a category's vector cannot be compared."""

    kinds = ("image", "audio", "text")
    signed = False

    def attribute(self, view: View) -> Tensor:
        found = captum().Saliency(view.answer).attribute(_points(view), additional_forward_args=view.rows)
        return view.places(found).detach()


class InputXGradient(Method):
    """The gradient times how far the input is from zero: black, the median, no vector (Shrikumar et al., 2017)."""

    def attribute(self, view: View) -> Tensor:
        found = captum().InputXGradient(view.answer).attribute(
            _points(view), additional_forward_args=view.rows
        )  # fmt: skip
        return view.places(found).detach()


class IntegratedGradients(Method):
    """The gradient along the line from the baseline, times its length (Sundararajan et al., 2017, arXiv 1703.01365): what
    the places are worth adds up to the difference of the answers. `steps` are points of the line."""

    def __init__(self, steps: Annotated[int, Field(ge=1, le=10_000)] = 50):
        self.steps = steps

    def attribute(self, view: View) -> Tensor:
        found = captum().IntegratedGradients(view.answer).attribute(
            _points(view), view.baselines, additional_forward_args=view.rows, n_steps=self.steps,
            internal_batch_size=max(len(view), view.at_once // 2),
        )  # fmt: skip
        return view.places(found).detach()
