"""Where an attacker may move: which column of a batch, in what units, between what bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.augment import to_float

from .base import Victim
from .threat import Norm, Threat


@dataclass(frozen=True)
class Space:
    """The column that is changed: images in brightness from 0 to 1, sounds in amplitude, numbers of a table in distances
    of their quartiles. `usual` is a small change there, by norm."""

    column: str
    unit: str
    low: float
    high: float
    usual: dict[Norm, float]
    scale: Tensor | None = None  # [F], of the numbers of a table

    def threat(self, epsilon: float | None, norm: Norm = "linf") -> Threat:
        """What may be changed, by default the usual."""
        return Threat(self.usual[norm] if epsilon is None else epsilon, norm, self.low, self.high)

    def enter(self, batch: dict[str, Tensor]) -> Tensor:
        """The inputs [B, ...] in these units; what is not known is 0."""
        x = to_float(batch[self.column])
        return x if self.scale is None else (x / self.scale).nan_to_num(0.0)

    def leave(self, x: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with these inputs; what was not known still is not."""
        if self.scale is not None:
            x = torch.where(batch[self.column].isnan(), torch.nan, x * self.scale)
        return {**batch, self.column: x}

    def victim(self, model: nn.Module, batch: dict[str, Tensor], key: str) -> Victim:
        """A model as an attacker of a batch sees it, by the head `key`."""
        whole = (
            dict(batch) if self.scale is not None else {n: t for n, t in batch.items() if n != self.column}
        )

        def ask(x: Tensor, rows: Tensor) -> Tensor:
            given = {name: tensor.index_select(0, rows) for name, tensor in whole.items()}
            out: Tensor = model(self.leave(x, given))[key]
            return out.float()

        return Victim(ask, torch.arange(len(batch[key]), device=batch[key].device))


def space(model: nn.Module, batch: dict[str, Tensor]) -> Space:
    """Where the inputs of a model can be attacked. Raises UsageError where they are codes alone."""
    if "image" in batch:
        return Space("image", "of the brightness", 0.0, 1.0, {"linf": 8 / 255, "l2": 0.5})
    if "audio" in batch:
        return Space("audio", "of the amplitude", -1.0, 1.0, _usual(0.002, batch["audio"]))
    if "numbers" in batch:
        numbers = getattr(model, "inputs", {})
        spread = numbers["numbers"].spread if "numbers" in numbers else torch.ones(batch["numbers"].shape[1])
        usual = _usual(0.1, batch["numbers"])
        return Space("numbers", "of the distance of the quartiles", -torch.inf, torch.inf, usual, spread)
    raise UsageError(
        "these inputs cannot be changed a little", expected="images, sounds, or numbers of a table"
    )


def _usual(each: float, column: Tensor) -> dict[Norm, float]:
    """A change of every number of a row, and how long it is."""
    return {"linf": each, "l2": each * column[0].numel() ** 0.5}
