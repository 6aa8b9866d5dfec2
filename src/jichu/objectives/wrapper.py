"""Objectives around another objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from jichu.data.augment import Augment
from jichu.data.target import Target

from .base import Batch, Context, Losses, Objective


class Wrapper(Objective):
    """Does what the inner objective does; a subclass changes what it wants."""

    task = "another objective"

    def __init__(self, inner: Objective):
        super().__init__()
        self.inner = inner

    @property
    def innermost(self) -> Objective:
        """What all is wrapped around."""
        return self.inner.innermost if isinstance(self.inner, Wrapper) else self.inner

    @property
    def unlabelled(self) -> int:  # type: ignore[override]
        return self.inner.unlabelled

    @property
    def independent(self) -> bool:  # type: ignore[override]
        return self.inner.independent

    @property
    def cached(self) -> bool:  # type: ignore[override]
        return self.inner.cached

    def answer(self, key: str, target: Target) -> Target:
        return self.inner.answer(key, target)

    def bind(self, model: nn.Module, batch: Batch) -> None:
        self.inner.bind(model, batch)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        return self.inner.prepare(batch, context)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return self.inner.weights(batch)

    def scales(self) -> Mapping[str, float | Tensor]:
        return self.inner.scales()

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return self.inner(model, batch)

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        return self.inner.losses(outputs, batch)

    def diagnose(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return self.inner.diagnose(outputs, batch)

    def after_step(self, model: nn.Module, context: Context) -> None:
        self.inner.after_step(model, context)


class Augmented(Wrapper):
    """The inputs of each training batch are changed at random before anything else sees them."""

    def __init__(self, inner: Objective, augment: Augment):
        super().__init__(inner)
        self.augment = augment

    def prepare(self, batch: Batch, context: Context) -> Batch:
        changed = self.augment.columns(batch, context.for_rows(batch["row"]))
        return super().prepare({**batch, **changed}, context)
