"""What a model does to its inputs before the backbone sees them. Part of the model, so that whoever has
the model has it."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .layout import laid_out
from .spectrogram import MASKS

_SAMPLE, _PIXELS = 10_000, 10_240_000  # images, and pixels in them, from which mean and deviation are taken
_FEWEST = 1000  # images from which they are, however large
_AT_ONCE = 2**22  # values of images looked at together
_MANY = 100_000  # rows of numbers from which quartiles are
_BEND = 3.0  # numbers so many spreads out are bent back
_RARE = 2  # a category of fewer training rows counts as unknown


class Pixels(nn.Module):
    """Images [B, C, H, W], uint8 or 0 to 1, to zero mean and unit variance by channel, perhaps scaled."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, size: int | None = None):
        super().__init__()
        self.size = size
        self.memory_format = torch.contiguous_format  # of what it gives; training may choose another
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("std", std.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        unit = 255 if images.dtype == torch.uint8 else 1
        images = images.float()
        if self.size is not None:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        images = torch.addcmul(-self.mean / self.std, images, 1 / (unit * self.std))
        return (
            images if self.memory_format == torch.contiguous_format else laid_out(images, self.memory_format)
        )

    @torch.no_grad()
    def estimate(self, images: Tensor, rows: Tensor) -> None:
        """From some rows of uint8 images [N, C, H, W], an even sample where there are many or large ones."""
        sample = rows[:: max(1, len(rows) // max(_FEWEST, min(_SAMPLE, _PIXELS // images[0, 0].numel())))]
        sums = torch.zeros(2, images.shape[1], dtype=torch.double)  # of the values and of their squares
        for part in sample.split(max(1, _AT_ONCE // images[0].numel())):
            values = images[part].float().flatten(2)
            sums += torch.stack([values.sum(2), values.square().sum(2)]).double().sum(1)
        mean, square = sums / (255 * len(sample) * images[0, 0].numel())
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_((square / 255 - mean**2).clamp(min=1 / 255**2).sqrt().view(-1, 1, 1))


class Numbers(nn.Module):
    """Numbers [B, F] centred at their median, divided by the distance of their quartiles, and bent back
    smoothly beyond three of those (Holzmüller et al., 2024, arXiv 2407.04491). NaN stays NaN."""

    centre: Tensor
    spread: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))

    def forward(self, numbers: Tensor) -> Tensor:
        x = (numbers.float() - self.centre) / self.spread
        return x / (1 + (x / _BEND) ** 2).sqrt()

    @torch.no_grad()
    def estimate(self, numbers: Tensor, rows: Tensor) -> None:
        """From some rows of numbers [N, F]. Where the quartiles are one, half the range is the spread."""
        x = numbers[rows[:: max(1, len(rows) // _MANY)]].double()
        low, centre, high = x.nanquantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.double), dim=0)
        ends = [x.nan_to_num(fill).aminmax(dim=0) for fill in (torch.inf, -torch.inf)]
        half = (ends[1].max - ends[0].min) / 2
        spread = torch.where(high > low, high - low, torch.where(half > 0, half, 1.0))
        self.centre.copy_(centre.nan_to_num(0.0))
        self.spread.copy_(spread.nan_to_num(1.0, posinf=1.0, neginf=1.0))


class Categories(nn.Module):
    """Codes [B, G]; those that training rows do not have, or hardly, become 0, unknown."""

    kept: Tensor
    starts: Tensor

    def __init__(self, sizes: list[int]):
        super().__init__()
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("kept", torch.ones(sum(sizes), dtype=torch.bool))

    def forward(self, codes: Tensor) -> Tensor:
        return codes * self.kept[codes + self.starts]

    @torch.no_grad()
    def estimate(self, codes: Tensor, rows: Tensor) -> None:
        """From some rows of codes [N, G]."""
        places = (codes[rows] + self.starts).flatten()
        self.kept.copy_(torch.bincount(places, minlength=len(self.kept)) >= _RARE)


class Inputs(nn.ModuleDict):
    """Each kind of input made ready; other columns of the batch are left."""

    def __init__(
        self,
        channels: int = 0,
        numbers: int = 0,
        categories: list[int] | None = None,
        scaled: int | None = None,
        audio: nn.Module | None = None,
        series: nn.Module | None = None,
    ):
        kinds: dict[str, nn.Module] = {}
        if channels:
            kinds["image"] = Pixels(torch.zeros(channels), torch.ones(channels), scaled)
        if numbers:
            kinds["numbers"] = Numbers(numbers)
        if categories:
            kinds["categories"] = Categories(categories)
        if audio is not None:
            kinds["audio"] = audio
        if series is not None:
            kinds["series"] = series
        super().__init__(kinds)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for name, ready in self.items():
            if name in batch:
                masks = [batch[MASKS]] if name == "audio" and MASKS in batch else []
                found = ready(batch[name], *masks)
                made |= found if isinstance(found, dict) else {getattr(ready, "gives", name): found}
        return {**batch, **made}

    def estimate(self, tensors: dict[str, Tensor], rows: Tensor) -> None:
        """Set the statistics from (training) rows of a data set."""
        for name, ready in self.items():
            cast(Any, ready).estimate(tensors[name], rows)

    def adopt(self, backbone: nn.Module) -> None:
        """Take the pixel statistics that a pretrained backbone was trained with, where it says them."""
        mean, std = (getattr(backbone, name, None) for name in ("image_mean", "image_std"))
        if mean and std:
            self.set_pixels(mean, std)

    @torch.no_grad()
    def set_pixels(self, mean: Any, std: Any) -> None:
        """Mean and deviation of pixels from 0 to 1: one number, or one for each channel."""
        pixels = cast(Pixels, self["image"]) if "image" in self else None
        for name, given in (("mean", mean), ("std", std)):
            values = torch.as_tensor(given, dtype=torch.float32).reshape(-1, 1, 1)
            if pixels is None or len(values) not in (1, len(pixels.mean)):
                raise UsageError(
                    f"{len(values)} values for the pixels' {name}",
                    where="pixels", expected=f"one, or {len(pixels.mean)}" if pixels else "data with images",
                )  # fmt: skip
            getattr(pixels, name).copy_(values.expand_as(pixels.mean))
