"""Methods of attribution, by name."""

from __future__ import annotations

from jichu.auditing.explaining.views import View
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.names import construct, resolve

from .base import Method

__all__ = ["METHODS", "Method", "make", "usual"]

METHODS = {
    "attention-rollout": "jichu.auditing.explaining.methods.rollout:AttentionRollout",
    "grad-cam": "jichu.auditing.explaining.methods.grad_cam:GradCam",
    "input-x-gradient": "jichu.auditing.explaining.methods.gradients:InputXGradient",
    "integrated-gradients": "jichu.auditing.explaining.methods.gradients:IntegratedGradients",
    "occlusion": "jichu.auditing.explaining.methods.perturbation:Occlusion",
    "saliency": "jichu.auditing.explaining.methods.gradients:Saliency",
    "shapley": "jichu.auditing.explaining.methods.perturbation:Shapley",
}
_PLURAL = {"image": "images", "audio": "sounds", "table": "tables", "text": "texts"}


def make(spec: Spec, kind: str | None = None, where: str = "method") -> Method:
    """The method of a name. UsageError where there is none, or it is not for this kind of input."""
    found = construct("method", spec, METHODS, where=where, of=Method)()
    if kind is not None and kind not in found.kinds:
        fit = [n for n in METHODS if kind in getattr(resolve("method", n, METHODS), "kinds", ())]
        raise UsageError(
            f"{spec.name} is not for {_PLURAL[kind]}", where=where, expected=f"one of {', '.join(fit)}"
        )
    return found


def usual(view: View) -> str:
    """The name of the method that is taken where none is asked for: one that fits the model."""
    if view.kind == "table":
        return "shapley"
    return "integrated-gradients" if view.differentiable() else "occlusion"
