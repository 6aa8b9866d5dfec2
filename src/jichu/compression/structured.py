"""Structured pruning: whole channels, neurons and attention heads are removed, and the network is a smaller one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import torch
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.models import cut
from jichu.models.changes import CUT, mark
from jichu.models.model import Model
from jichu.models.modes import evaluating

from .base import BACKBONE, Amount, Step, Subject, matching
from .importance import l1, least, taylor
from .tracing import Traced, Unit, trace

_FITS = "alexnet, vgg, resnet, resnet9, densenet, inception-v3, cnn and mlp without group normalisation, or a transformer"


class Structured(Step):
    """A share `amount` of the channels of convolutions, of the neurons of dense layers and of the heads of attention is
    removed, with all that is connected to them: those of each layer whose weights are smallest (`l1`: Li et al., 2017,
    arXiv 1608.08710), or whose removal changes the loss least by its first-order expansion, summed over a few training
    batches (`taylor`: Molchanov et al., 2019, arXiv 1906.10771). With `scope: global` of all layers together, norms in
    units of their layer's mean. A pattern of `layers` says of whose outputs. At least one of a layer stays."""

    name = "structured"
    structural = True

    def __init__(
        self,
        amount: Amount,
        by: Literal["l1", "taylor"] = "l1",
        scope: Literal["layer", "global"] = "layer",
        layers: str | None = None,
    ):
        self.amount, self.by, self.scope, self.layers = amount, by, scope, layers
        self.looks = by == "taylor"

    def begin(self, subject: Subject) -> None:
        model = subject.model
        batches = subject.batches()
        found = trace(model, batches[0])
        families = self._asked(found, model)
        weigh = l1(model, found) if self.by == "l1" else taylor(subject, found, batches)
        scores = {names: torch.stack([weigh(unit) for unit in units]) for names, units in families.items()}
        gone = [families[names][i] for names, i in least(scores, self.amount, self.scope)]
        if not gone:
            raise UsageError(
                f"{self.amount:g} of no layer is one whole", where=self.name, expected="a larger amount"
            )
        layers = remove(model, gone, found.widths)
        _try(model, batches[0])
        change = {"name": CUT, "layers": layers, "width": model.backbone.width}
        subject.config.changes = [*subject.config.changes, change]

    def _asked(self, found: Traced, model: Model) -> dict[tuple[str, ...], list[Unit]]:
        if not found.families:
            raise UsageError(
                f"nothing of {type(model.backbone).__name__} can be removed in whole channels: all is connected by what"
                " mixes them, such as normalisation over channels or recurrence", where=self.name, expected=_FITS,
            )  # fmt: skip
        every = sorted({name for names in found.families for name in names})
        wanted = set(matching(every, self.layers, self.name))
        asked = {names: units for names, units in found.families.items() if wanted >= set(names)}
        if not asked:
            together = next(names for names in found.families if wanted & set(names))
            raise UsageError(
                f"the channels of {', '.join(together[:5])} go together", where=f"{self.name}.layers",
                expected="a pattern that matches all of them",
            )  # fmt: skip
        return asked


def remove(model: Model, units: list[Unit], widths: dict[str, int]) -> dict[str, list[int]]:
    """Take units out of a model, in place. Gives [inputs, outputs] of each layer of the backbone that has others now."""
    layers: dict[str, Any] = dict(model.named_modules())
    outputs: dict[str, set[int]] = defaultdict(set)
    inputs: dict[str, set[int]] = defaultdict(set)
    for unit in units:
        for name, block in unit.outputs:
            outputs[name] |= set(range(block * widths[name], (block + 1) * widths[name]))
        for name, number in unit.inputs:
            inputs[name].add(number)
    for name in {**outputs, **inputs}:
        taken, given = cut.sizes(layers[name])
        cut.keep(layers[name], _but(inputs.get(name), taken), _but(outputs.get(name), given))
    into_heads = [len(gone) for name, gone in inputs.items() if name.startswith("heads.")]
    cut.settle(model.backbone, model.backbone.width - max(into_heads, default=0))
    mark(model.backbone)
    changed = [name for name in layers if name in {**outputs, **inputs} and name.startswith(BACKBONE)]
    return {name.removeprefix(BACKBONE): list(cut.sizes(layers[name])) for name in changed}


def _but(gone: set[int] | None, total: int) -> Tensor | None:
    return None if not gone else torch.tensor([i for i in range(total) if i not in gone])


def _try(model: Model, batch: Any) -> None:
    try:
        with evaluating(model):
            model(batch)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"{type(model.backbone).__name__} joins channels in a way that cannot be followed: {str(error).splitlines()[0]}",
            where="structured", expected=_FITS,
        ) from None  # fmt: skip
