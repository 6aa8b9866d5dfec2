"""Model and objective as one module, and how gradients are obtained from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from jichu.core.errors import UsageError
from jichu.core.randomness import random_state, set_random_state
from jichu.core.ranks import sum_over_ranks, world_size
from jichu.objectives.base import Batch, Objective, as_terms

from .memory import Buffers

_TINY = 1e-12


class Learner(nn.Module):
    """Wraps both, so that whatever distributes or hooks a module sees the objective's parameters too."""

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, batch: Batch, totals: dict[str, Tensor], parts: int, diagnose: bool = False,
        slopes: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]:  # fmt: skip
        """This micro-batch's share of the step's loss; of each term; its row losses [B]; diagnosis. With
        `slopes`, the loss's gradients by the outputs, a loss that has the same gradients, and no more."""
        outputs = self.objective(self.model, batch)
        if slopes is not None:
            pairs = [(outputs[name], slope) for name, slope in slopes.items() if outputs[name].requires_grad]
            return (
                torch.stack([(value.float() * slope).sum() for value, slope in pairs]).sum(),
                {},
                torch.empty(0),
                {},
            )
        return self.of(outputs, batch, totals, parts, diagnose)

    def of(
        self, outputs: Any, batch: Batch, totals: dict[str, Tensor], parts: int, diagnose: bool
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """`forward` from what the objective's own forward gave."""
        terms = as_terms(self.objective.losses(outputs, batch))
        weights, scales = self.objective.weights(batch), self.objective.scales()
        loss: Tensor | float = 0.0
        shares: dict[str, Tensor] = {}
        per_row = torch.zeros(len(batch["row"]), device=batch["row"].device)
        for name, term in terms.items():
            if term.ndim == 0:
                share = term / parts
            elif name not in weights:
                raise UsageError(
                    f"{type(self.objective).__name__} gives row losses for the term {name!r}",
                    expected=f"a weight for it; weights() names {', '.join(weights)}",
                )
            else:
                weighted = weights[name] * term
                # every process's gradients are averaged, so each counts its rows `world` times
                share = weighted.sum() * (world_size() / totals[name].clamp(min=_TINY))
                if len(weighted) == len(per_row):
                    per_row = per_row + (scales.get(name, 1.0) * weighted).detach()
            loss = loss + scales.get(name, 1.0) * share
            shares[name] = share.detach()
        with torch.no_grad():
            found = self.objective.diagnose(outputs, batch) if diagnose else {}
        return torch.as_tensor(loss), shares, per_row, found


def cut(batch: Batch, parts: int) -> list[Batch]:
    """A batch in micro-batches; none is empty unless the batch is."""
    if parts == 1:
        return [batch]
    rows = len(batch["row"])
    parts = max(1, min(parts, rows))
    pieces = {
        name: value.tensor_split(parts) if len(value) == rows else [value] * parts
        for name, value in batch.items()
    }
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(parts)]


def joined(micro: list[Batch]) -> Batch:
    """What `cut` has cut, prepared or not."""
    rows = len(micro[0]["row"])
    return {
        name: torch.cat([batch[name] for batch in micro]) if len(value) == rows else value
        for name, value in micro[0].items()
    }


def total_weights(objective: Objective, micro: list[Batch], asked: bool) -> tuple[dict[str, Tensor], bool]:
    """The weight of each term over all micro-batches and processes, known before any forward pass;
    and, on the way, whether any process was `asked` to stop."""
    sums: dict[str, Tensor] = {}
    for batch in micro:
        for name, weight in objective.weights(batch).items():
            sums[name] = sums.get(name, 0.0) + weight.sum()
    if world_size() == 1:
        return sums, asked
    flag = torch.tensor(float(asked), device=micro[0]["row"].device)
    together = sum_over_ranks(torch.stack([*sums.values(), flag]))
    return dict(zip(sums, together[:-1], strict=True)), bool(together[-1])


def _syncing(module: nn.Module, last: bool) -> Any:
    """The processes average their gradients after the last micro-batch alone."""
    return (
        module.no_sync()
        if isinstance(module, DistributedDataParallel) and not last
        else contextlib.nullcontext()
    )


def backward(
    module: nn.Module,
    micro: list[Batch],
    totals: dict[str, Tensor],
    autocast: Any,
    *,
    diagnose: bool = False,
    lap: Callable[[str], None] = lambda phase: None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the step's loss by plain backpropagation. Gives the loss, each term, and the last
    micro-batch's diagnosis; `lap` is told when a forward or a backward pass ends."""
    losses: list[Tensor] = []
    terms: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    for i, batch in enumerate(micro):
        last = i == len(micro) - 1
        with _syncing(module, last):
            with autocast():
                loss, shares, _, found = module(batch, totals, len(micro), diagnose and last)
            lap("forward")
            loss.backward()
            lap("backward")
        losses.append(loss.detach())
        for name, share in shares.items():
            terms[name] = terms.get(name, 0.0) + share
    return torch.stack(losses).sum(), terms, found


def cached(
    module: nn.Module,
    learner: Learner,
    micro: list[Batch],
    totals: dict[str, Tensor],
    autocast: Any,
    *,
    diagnose: bool = False,
    lap: Callable[[str], None] = lambda phase: None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the loss of all micro-batches' rows together, in the memory of one (gradient caching: Gao et al.,
    2021, arXiv 2101.06983): their outputs are computed without a graph, the loss's gradients by these, and then
    every output again with its graph, to pass them on. A third more is computed; batch statistics are of a
    micro-batch, as ever. Gives what `backward` gives."""
    device = micro[0]["row"].device
    before = Buffers(learner)
    before.keep()
    states, parts = [], []
    for batch in micro:
        states.append(random_state(device))
        with torch.no_grad(), autocast():
            parts.append(learner.objective(learner.model, batch))
    before.restore()  # the second pass moves them
    lap("forward")
    whole = joined(micro)
    leaves = {name: torch.cat([part[name] for part in parts]).float().requires_grad_() for name in parts[0]}
    with autocast():
        loss, terms, _, found = learner.of(leaves, whole, totals, 1, diagnose)
    loss.backward()
    lap("backward")
    sizes = [len(batch["row"]) for batch in micro]
    slopes = {name: leaf.grad.split(sizes) for name, leaf in leaves.items() if leaf.grad is not None}
    for i, (batch, state) in enumerate(zip(micro, states, strict=True)):
        set_random_state(device, state)
        with _syncing(module, i == len(micro) - 1):
            with autocast():
                again = module(batch, totals, 1, False, {name: slope[i] for name, slope in slopes.items()})[0]
            lap("forward")
            again.backward()
            lap("backward")
    return loss.detach(), terms, found
