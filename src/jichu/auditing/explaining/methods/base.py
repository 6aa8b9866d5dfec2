"""What an explanation by attribution is."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from jichu.auditing.explaining.views import View

Scale = Literal["logit", "probability", "attention"]


class Method:
    """Divides an answer among the places of its input. A subclass is a file, or a class in one, and a line in the table
    of names; its keyword arguments are what may be said of it."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "table", "text")
    scale: ClassVar[Scale] = "logit"  # of what is divided; of a number it is the number
    signed: ClassVar[bool] = True  # whether a place can speak against the answer

    def fit(self, view: View) -> None:
        """UsageError where it does not fit this model."""
        view.require_gradients()

    def attribute(self, view: View) -> Tensor:
        """What each place is worth, [B, *view.shape]."""
        raise NotImplementedError(f"{type(self).__name__}.attribute")
