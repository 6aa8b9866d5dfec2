"""Muon (Jordan et al., 2024): momentum made orthogonal, for the matrices of hidden layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jichu.models.cut import is_crosswise
from jichu.models.layout import learnt

# A quintic that is steep at zero: five rounds bring singular values from 0.01 up into 0.7 to 1.2
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
_ADAMS_RMS = 0.2  # of an AdamW update; what Muon's is scaled to (Liu et al., 2025, arXiv 2502.16982)
_MATRICES = (nn.Linear, nn.modules.conv._ConvNd)


def matrices(module: nn.Module) -> set[Tensor]:
    """The weights Muon is for: those of dense and convolution layers, and attention's, outside `heads` and a
    language model's head. Embeddings, also where they serve as such a head, vectors, and whatever else a
    module keeps are AdamW's."""
    found: set[Tensor] = set()
    embeddings = {part.weight for part in module.modules() if isinstance(part, nn.Embedding)}
    for name, part in module.named_modules():
        outside = not {"heads", "lm_head"} & set(name.split("."))
        if outside and (isinstance(part, _MATRICES) or is_crosswise(part)):
            found.add(learnt(part))
        elif outside and isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None:
            found.add(part.in_proj_weight)
    return {p for p in found - embeddings if min(p.flatten(1).shape) > 1}


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[..., M, N] to nearly UVᵀ of its singular value decomposition, by Newton and Schulz's iteration,
    for which bfloat16 is exact enough."""
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.AdamW):
    """AdamW, and Muon, computed in `dtype`, for groups that say `matrices: True`. A matrix's update has the root mean square of
    AdamW's, so that one learning rate and one weight decay serve both. A kernel [O, I, H, W] counts as a
    matrix [O, I·H·W]. Matrices of one shape are made orthogonal together."""

    def __init__(
        self, params: Any, lr: float, *, momentum: float = 0.9, nesterov: bool = True,
        dtype: torch.dtype = torch.float32, **adamw: Any,
    ):  # fmt: skip
        super().__init__(params, lr, **adamw)
        self.momentum, self.nesterov, self.dtype = momentum, nesterov, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            result = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["matrices"]:
                self._step_matrices(group)
        return result

    def _step_matrices(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients = [p.grad for p in parameters]
        for parameter in parameters:
            if not self.state[parameter]:  # `step` is what AdamW looks for when a state is loaded
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "momentum_buffer": torch.zeros_like(parameter),
                }
        kept = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(kept, gradients, 1 - self.momentum)
        updates = torch._foreach_lerp(gradients, kept, self.momentum) if self.nesterov else kept
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, update in enumerate(updates):
            alike.setdefault((update.flatten(1).shape, update.dtype, update.device), []).append(i)
        for (shape, *_), places in alike.items():
            together = orthogonalise(torch.stack([updates[i].flatten(1) for i in places]), self.dtype)
            size = group["lr"] * _ADAMS_RMS * math.sqrt(max(shape))
            for i, update in zip(places, together, strict=True):
                parameters[i].add_(update.view(parameters[i].shape), alpha=-size)
