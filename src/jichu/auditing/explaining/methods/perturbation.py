"""Attribution by asking again with some of the input taken away: of any model."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing.explaining.library import captum
from jichu.auditing.explaining.views import View
from jichu.core.errors import UsageError
from jichu.core.randomness import derive

from .base import Method

_AT_ONCE = 64  # questions asked together
Size = Annotated[int, Field(ge=1)]
Samples = Annotated[int, Field(ge=1, le=10_000)]


class _Perturbation(Method):
    scale = "probability"

    def fit(self, view: View) -> None:
        """It fits every model."""


class Occlusion(_Perturbation):
    """By how much the probability falls where a window is hidden (Zeiler and Fergus, 2014, arXiv 1311.2901). `window` is
    its side in places (an eighth of a picture, a word, a column if not given), `stride` from one to the next (half of it)."""

    def __init__(self, window: Size | None = None, stride: Size | None = None):
        self.window, self.stride = window, stride

    def attribute(self, view: View) -> Tensor:
        window = view.window() if self.window is None else (self.window,) * len(view.shape)
        if any(w > side for w, side in zip(window, view.shape, strict=True)):
            raise UsageError(
                f"a window of {self.window} places, and the input has {' × '.join(map(str, view.shape))}",
                where="window", expected=f"at most {min(view.shape)}",
            )  # fmt: skip
        stride = tuple(max(1, w // 2) if self.stride is None else min(self.stride, w) for w in window)
        present = torch.ones(len(view), *view.shape)
        return captum().Occlusion(view.shown).attribute(
            present, window, stride, additional_forward_args=view.rows, perturbations_per_eval=_AT_ONCE
        )  # fmt: skip


class Shapley(_Perturbation):
    """Shapley values: by how much a part raises the probability, on average over all orders in which the parts may come
    (Shapley, 1953; Štrumbelj and Kononenko, 2014). By `sampling` orders, `samples` of them, or `kernel`: KernelSHAP's
    regression (Lundberg and Lee, 2017, arXiv 1705.07874) on `samples` sets of parts. A large input has some 64 `parts`."""

    def __init__(
        self,
        by: Literal["sampling", "kernel"] = "sampling",
        samples: Samples | None = None,
        parts: Annotated[int, Field(ge=2, le=1000)] = 64,
        seed: int = 0,
    ):
        self.by, self.parts, self.seed = by, parts, seed
        self.samples = samples or (25 if by == "sampling" else 500)

    def attribute(self, view: View) -> Tensor:
        method = captum().ShapleyValueSampling if self.by == "sampling" else captum().KernelShap
        columns = math.prod(view.shape)  # of a table; neighbours among them have nothing in common
        groups = parts(view.shape, columns if view.kind == "table" else self.parts)
        found = torch.cat([self._one(method, view, row, groups) for row in range(len(view))])
        return found / torch.bincount(groups.flatten())[groups]  # places share what their part is worth

    def _one(self, method: Any, view: View, row: int, groups: Tensor) -> Tensor:
        def shown(present: Tensor) -> Tensor:  # KernelSHAP repeats rows in a way of its own
            return view.shown(present, torch.full((len(present),), row))

        with torch.random.fork_rng(
            devices=[]
        ):  # the same orders for each row: it does not matter beside which it stands
            torch.manual_seed(derive("shapley", self.seed))
            return method(shown).attribute(
                torch.ones(1, *view.shape), n_samples=self.samples, feature_mask=groups[None],
                perturbations_per_eval=_AT_ONCE,
            )  # fmt: skip


def parts(shape: tuple[int, ...], count: int) -> Tensor:
    """Which of about `count` parts, blocks of neighbours, each place belongs to."""
    side = math.ceil((math.prod(shape) / count) ** (1 / len(shape)))
    counts = [-(-length // side) for length in shape]
    found = torch.zeros(shape, dtype=torch.int64)
    for axis, (length, n) in enumerate(zip(shape, counts, strict=True)):
        place = (torch.arange(length) // side).view(*(-1 if a == axis else 1 for a in range(len(shape))))
        found = found * n + place
    return found
