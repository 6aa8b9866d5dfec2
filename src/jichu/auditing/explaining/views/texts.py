"""Texts, by token."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Asked, View
from .lookups import hooked


class Texts(View):
    """Tokens [B, T], -1 beyond a row's end. Those of the template, `special`, always stay.

    What is not there is taken out, and what follows moves up; as points, tokens are their vectors, and nothing is the mean
    of all tokens' vectors. A text that is read in windows of `context` tokens keeps each window's beginning.
    """

    kind = "text"

    def __init__(self, asked: Asked, batch: dict[str, Tensor], special: set[int], context: int):
        super().__init__(asked, {"tokens": batch["tokens"]})
        self.tokens, self.context = batch["tokens"], context
        self.shape = (self.tokens.shape[1],)
        always = torch.isin(self.tokens, torch.tensor(sorted(special), dtype=torch.int64))
        self.open = (self.tokens >= 0) & ~always
        self.points, self.baselines = (), ()
        self.lookups: list[nn.Module] = []
        if (found := embedding(asked.model.backbone)) is not None:
            # tied weights may stand in several modules, of which one is called
            modules = asked.model.backbone.modules()
            self.lookups = [m for m in modules if getattr(m, "weight", None) is found.weight]
            with torch.no_grad():
                vectors = found(self.tokens.clamp(min=0))
            nothing = found.weight.detach().mean(0).to(vectors)
            self.points = (vectors,)
            self.baselines = (torch.where(self.open[..., None], nothing, vectors),)

    def free(self) -> Tensor:
        return self.open

    def window(self) -> tuple[int, ...]:
        return (1,)

    def at(self, points: list[Tensor], rows: Tensor) -> Tensor:
        tokens, (vectors,) = self.tokens[rows], points

        def give(part: nn.Module, given: Any, found: Tensor) -> Tensor | None:
            if found.ndim != 3 or not isinstance(part, nn.Embedding):
                return None
            mask, value = tokens >= 0, vectors
            if found.shape[:2] != value.shape[:2]:  # in windows, of which empty ones are left out
                there = self._windows(mask, False).any(1)
                mask, value = self._windows(mask, False)[there], self._windows(value, 0)[there]
            return torch.where(mask[..., None], value, found)

        with hooked(self.lookups, give):
            return self.run({"tokens": tokens})

    def _windows(self, values: Tensor, fill: float) -> Tensor:
        """[B, T, …] as [B × windows, context, …]."""
        more = -values.shape[1] % self.context
        values = F.pad(values, (*(0, 0) * (values.ndim - 2), 0, more), value=fill)
        return values.reshape(-1, self.context, *values.shape[2:])

    def partly(self, present: Tensor, rows: Tensor) -> Tensor:
        tokens = self.tokens[rows].masked_fill(self.open[rows] & ~present, -1)
        windows = self._windows(tokens, -1)
        order = (windows < 0).long().argsort(dim=1, stable=True)  # what is left comes first
        return self.run({"tokens": windows.gather(1, order).view(len(rows), -1)[:, : tokens.shape[1]]})

    def places(self, found: tuple[Tensor, ...]) -> Tensor:
        return found[0].sum(2) * self.open


def embedding(backbone: nn.Module) -> nn.Embedding | None:
    """What looks tokens up; None where tokens are counted."""
    inner: Any = getattr(backbone, "module", None)
    if hasattr(inner, "get_input_embeddings"):
        return inner.get_input_embeddings()
    return next((m for m in backbone.modules() if isinstance(m, nn.Embedding)), None)
