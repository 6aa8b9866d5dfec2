"""Several targets at once, each with its head and its objective; how much each counts is given, or found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import unknown
from jichu.core.ranks import sum_over_ranks
from jichu.data.target import Target

from .balancing import BALANCES, Balance
from .base import Batch, Context, Objective, as_terms


class Several(Objective):
    """One term for each inner objective, named by its target: a row counts in those whose target it has.
    `scales` multiply the terms; 1 where a target is not named. Beside them `balance` finds factors while training: by
    each loss's own noise (`uncertainty`), or by how fast it falls (`dwa`)."""

    task = "several targets"

    def __init__(
        self,
        inner: dict[str, Objective],
        scales: dict[str, Annotated[float, Field(ge=0)]] = {},  # noqa: B006 (read only)
        balance: Literal["fixed", "uncertainty", "dwa"] = "fixed",
    ):
        super().__init__()
        for name in scales:
            if name not in inner:
                raise unknown("target", name, inner, where="objective.scales")
        self._names, self._scales = list(inner), dict(scales)
        self.inner = nn.ModuleList(inner.values())
        self.balance: Balance | None = BALANCES[balance](len(inner)) if balance in BALANCES else None

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
        if self.balance is not None:
            self.balance.to(batch["row"].device).begin(self._tried(model, batch))

    def _tried(self, model: nn.Module, batch: Batch) -> Tensor:
        """The losses [K] of a batch, of all processes, as they are before training."""
        training = model.training
        with torch.no_grad():
            batch = self.prepare(batch, Context(0))
            terms, weights = self.losses(self(model.eval(), batch), batch), self.weights(batch)
        model.train(training)
        sums = sum_over_ranks(
            torch.stack([part.sum() for n in weights for part in (weights[n] * terms[n], weights[n])])
        )
        means = sums[::2] / sums[1::2].clamp(min=1e-12)
        return self._by_target(dict(zip(weights, means, strict=True)))

    def _by_target(self, terms: Mapping[str, Tensor]) -> Tensor:
        """[K], of each target the sum of its terms as they are scaled by hand."""
        scales = self._scales_given()
        of = {name: [t for t in scales if t == name or t.startswith(f"{name}/")] for name in self._names}
        return torch.stack([sum(scales[t] * terms[t] for t in of[n] if t in terms) for n in self._names])  # type: ignore[misc]

    def prepare(self, batch: Batch, context: Context) -> Batch:
        for _, objective in self._each():
            batch = objective.prepare(batch, context)
        return batch

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, objective in self._each():
            found |= _named(name, objective.weights(batch))
        return found

    def scales(self) -> Mapping[str, float | Tensor]:
        given = self._scales_given()
        if self.balance is None:
            return given
        factors = dict(zip(self._names, self.balance.factors(), strict=True))
        return {term: scale * factors[term.partition("/")[0]] for term, scale in given.items()}

    def _scales_given(self) -> dict[str, float]:
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
        penalty = None if self.balance is None else self.balance.penalty()
        return found if penalty is None else {**found, "balance": penalty}

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, objective in self._each():
            values = objective.diagnose(outputs[name], batch)
            found |= {f"{name}/{key}": value for key, value in values.items()}
        if self.balance is not None:
            factors = self.balance.factors().detach()
            found |= {f"{name}/factor": factor for name, factor in zip(self._names, factors, strict=True)}
        return found

    def after_step(self, model: nn.Module, context: Context) -> None:
        for _, objective in self._each():
            objective.after_step(model, context)
        if self.balance is not None and context.terms:
            self.balance.after_step(self._by_target(context.terms), context)


def _named(name: str, terms: dict[str, Any]) -> dict[str, Any]:
    """Terms under the target's name; the only one of an objective has no name of its own."""
    return {name if term == "loss" else f"{name}/{term}": value for term, value in terms.items()}
