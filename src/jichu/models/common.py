"""What several networks share: kinds of arguments, the choice of a stem, the least size, initialisation, and
what is read out of rows of tokens."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Depth = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # the probability with which something is dropped

# How an image enters: `large` is the paper's for ImageNet, `small` keeps more places.
Stem = Literal["auto", "small", "large"]
_LARGE = 96  # pixels from which `auto` is `large`


def is_small(stem: Stem, size: int) -> bool:
    """Whether images of size × size pixels get the small stem."""
    return stem == "small" or (stem == "auto" and size < _LARGE)


def refuse_below(least: int, size: int, network: str, fits: str = "resnet18") -> None:
    """UsageError where images are smaller than a network can take; `fits` is what can be done instead."""
    if size < least:
        raise UsageError(
            f"{network} cannot take images of {size} × {size} pixels",
            expected=f"{least} × {least} or more; for smaller ones {fits}",
        )


def he_init(network: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Weights of convolutions and dense layers such that ReLU keeps the variance (He et al., 2015,
    arXiv 1502.01852): with `fan_in` of what goes forward, which networks without normalisation need;
    with `fan_out` of the gradients, for convolutions. Biases are zero."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            chosen = mode if isinstance(module, nn.Conv2d) else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=chosen, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Classic(Backbone):
    """Convolutions, then the dense layers of a classifier over `places` × `places` of what they give; without
    a classifier the mean over places."""

    places: ClassVar[int]
    features: nn.Module
    classifier: nn.Module | None

    def forward(self, batch: dict[str, Tensor]) -> Features:
        maps = self.features(batch["image"])
        if self.classifier is None:
            return Features(maps.mean((2, 3)), maps=maps)
        return Features(self.classifier(F.adaptive_avg_pool2d(maps, self.places).flatten(1)), maps=maps)


def mean(sequence: Tensor, mask: Tensor) -> Tensor:
    """Over the places of the mask [B, T]; 0 where there is none."""
    weight = mask.to(sequence.dtype)
    return torch.einsum("btd,bt->bd", sequence, weight) / weight.sum(1, keepdim=True).clamp(min=1)


def last(sequence: Tensor, mask: Tensor) -> Tensor:
    """At the last place of the mask [B, T]; at the first where there is none."""
    place = (torch.arange(mask.shape[1], device=mask.device) * mask).argmax(1)
    return sequence[torch.arange(mask.shape[0], device=mask.device), place]


def positions(document: Tensor) -> Tensor:
    """The place of each token in its document, from the documents' numbers [B, T]."""
    column = torch.arange(document.shape[1], device=document.device).expand_as(document)
    begins = F.pad(document.diff(dim=1) != 0, (1, 0), value=True)
    return column - torch.where(begins, column, 0).cummax(1).values
