"""Pictures, of which parts are blurred or made plain; sounds, of which moments are silent."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jichu.auditing.explaining.methods.perturbation import parts
from jichu.data.given import Inputs
from jichu.data.pictures import png
from jichu.data.sound import Sound

from ..examples import address, wav
from ..seen import Seen
from .base import Changing
from .search import Edit

_PATCHES, _MOMENTS = 49, 32  # at about so many places
_BLURRED = 4  # the side of an image over the side of what is averaged


class Places(Changing):
    """An array [C, …] whose places are blocks of neighbours, in the place of which others may stand."""

    kind: str
    others: dict[str, Tensor]

    def __init__(self, seen: Seen, given: Tensor, groups: Tensor):
        super().__init__(seen, given.nbytes)
        self.given, self.groups = given, groups

    def options(self) -> list[tuple[int, int]]:
        return [
            (place, other) for other in range(len(self.others)) for place in range(int(self.groups.max()) + 1)
        ]

    def made(self, edit: Edit) -> Tensor:
        """The array as it is then."""
        found, others = self.given, list(self.others.values())
        for place, other in edit.items():
            found = torch.where(self.groups == place, others[other], found)
        return found

    def inputs(self, edits: list[Edit]) -> Inputs:
        return Inputs([""] * len(edits), {self.kind: torch.stack([self.made(edit) for edit in edits])})


class Patches(Places):
    """An image uint8 [C, H, W] in some fifty squares, each of which may be blurred, or have the colour that is the
    image's mean (Vermeire and Martens, 2020, arXiv 2004.07511, with squares for their segments)."""

    kind = "image"

    def __init__(self, seen: Seen, given: Tensor):
        super().__init__(seen, given, parts(tuple(given.shape[1:]), _PATCHES))
        values = given.float()
        side = max(3, min(given.shape[1:]) // _BLURRED // 2 * 2 + 1)
        blurred = F.avg_pool2d(values, side, 1, side // 2, count_include_pad=False)
        mean = values.mean((1, 2), keepdim=True).expand_as(values)
        self.others = {"blur": blurred.round().to(given.dtype), "mean": mean.round().to(given.dtype)}

    def changes(self, edit: Edit) -> list[dict[str, Any]]:
        names = list(self.others)
        return [{"box": self._box(place), "by": names[edit[place]]} for place in sorted(edit)]

    def _box(self, place: int) -> list[int]:
        """Left, top, right and bottom of a square, in pixels."""
        rows, columns = (self.groups == place).nonzero(as_tuple=True)
        return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]

    def changed(self, edit: Edit) -> dict[str, Any]:
        return {"image": address(png(self.made(edit)), "image/png")}


class Moments(Places):
    """A sound int16 [samples] in 32 moments, each of which may be silent."""

    kind = "audio"

    def __init__(self, seen: Seen, given: Tensor, how: Sound):
        super().__init__(seen, given, parts(tuple(given.shape), _MOMENTS))
        self.how, self.others = how, {"silence": torch.zeros_like(given)}

    def changes(self, edit: Edit) -> list[dict[str, Any]]:
        spans = [(self.groups == place).nonzero()[:, 0] for place in sorted(edit)]
        return [
            {"seconds": [int(s[0]) / self.how.rate, (int(s[-1]) + 1) / self.how.rate], "by": "silence"}
            for s in spans
        ]

    def changed(self, edit: Edit) -> dict[str, Any]:
        return {"sound": address(wav(self.made(edit), self.how.rate), "audio/wav")}
