"""Several targets at once, each with its head and its objective."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import unknown
from jichu.data.target import Target

from .base import Batch, Context, Objective, as_terms


class Several(Objective):
    """One term for each inner objective, named by its target: a row counts in those whose target it has.
    `scales` multiply the terms; 1 where a target is not named."""

    task = "several targets"

    def __init__(
        self,
        inner: dict[str, Objective],
        scales: dict[str, Annotated[float, Field(ge=0)]] = {},  # noqa: B006 (read only)
    ):
        super().__init__()
        for name in scales:
            if name not in inner:
                raise unknown("target", name, inner, where="objective.scales")
        self._names, self._scales = list(inner), dict(scales)
        self.inner = nn.ModuleList(inner.values())

    @property
    def independent(self) -> bool:  # type: ignore[override]
        return all(objective.independent for _, objective in self._each())

    def _each(self) -> list[tuple[str, Any]]:
        return list(zip(self._names, self.inner, strict=True))

    def answer(self, key: str, target: Target) -> Target:
        for _, objective in self._each():
            target = objective.answer(key, target)
        return target

    def bind(self, model: nn.Module, batch: Batch) -> None:
        for _, objective in self._each():
            objective.bind(model, batch)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        for _, objective in self._each():
            batch = objective.prepare(batch, context)
        return batch

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, objective in self._each():
            found |= _named(name, objective.weights(batch))
        return found

    def scales(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, objective in self._each():
            scale = self._scales.get(name, 1.0)
            own = {"loss": 1.0, **objective.scales()}
            found |= _named(name, {term: scale * value for term, value in own.items()})
        return found

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """Each objective's outputs; those that call the model plainly share one call."""
        plain: Any = None
        found: dict[str, Any] = {}
        for name, objective in self._each():
            if type(objective).forward is Objective.forward:
                plain = plain if plain is not None else model(batch)
                found[name] = plain
            else:
                found[name] = objective(model, batch)
        return found

    def losses(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, objective in self._each():
            found |= _named(name, as_terms(objective.losses(outputs[name], batch)))
        return found

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, objective in self._each():
            values = objective.diagnose(outputs[name], batch)
            found |= {f"{name}/{key}": value for key, value in values.items()}
        return found

    def after_step(self, model: nn.Module, context: Context) -> None:
        for _, objective in self._each():
            objective.after_step(model, context)


def _named(name: str, terms: dict[str, Any]) -> dict[str, Any]:
    """Terms under the target's name; the only one of an objective has no name of its own."""
    return {name if term == "loss" else f"{name}/{term}": value for term, value in terms.items()}
