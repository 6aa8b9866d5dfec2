"""Which places of a convolution's maps speak for an answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jichu.auditing.explaining.library import captum
from jichu.auditing.explaining.views import View
from jichu.auditing.explaining.views.lookups import hooked
from jichu.core.errors import UsageError, unknown

from .base import Method


class GradCam(Method):
    """The maps of a convolution, each weighted by its mean gradient, what is negative left out, stretched to the picture
    (Selvaraju et al., 2017, arXiv 1610.02391). `layer` is a part of the model by its name; the last convolution with more
    than one place if not given."""

    kinds = ("image", "audio")
    signed = False

    def __init__(self, layer: str | None = None):
        self.layer = layer

    def fit(self, view: View) -> None:
        super().fit(view)
        self._layer(view)

    def attribute(self, view: View) -> Tensor:
        library = captum()
        points = tuple(p.detach().clone().requires_grad_() for p in view.points)
        found = library.LayerGradCam(view.answer, self._layer(view)).attribute(
            points, additional_forward_args=view.rows, relu_attributions=True
        )  # fmt: skip
        return library.LayerAttribution.interpolate(found.detach(), view.shape, "bilinear")[:, 0]

    def _layer(self, view: View) -> nn.Module:
        parts = {n: m for n, m in view.asked.model.backbone.named_modules() if n}
        if self.layer is not None and self.layer not in parts:
            raise unknown("layer", self.layer, parts, where="layer")
        asked = [parts[self.layer]] if self.layer else [m for m in parts.values() if isinstance(m, nn.Conv2d)]
        found: list[nn.Module] = []

        def note(part: nn.Module, given: Any, maps: Any) -> None:
            if isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[2] * maps.shape[3] > 1:
                found.append(part)

        with hooked(asked, note), torch.no_grad():
            view.answer(*(p[:1] for p in view.points), view.rows[:1])
        if not found:
            what = f"{self.layer} gives no maps" if self.layer else "this model has no convolution"
            raise UsageError(f"grad-cam: {what}", expected="integrated-gradients or occlusion")
        return found[-1]
