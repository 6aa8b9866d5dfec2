"""Masked images: most of an image is hidden, and a small decoder is to tell it from the rest."""

from __future__ import annotations

import contextlib
import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.augment import Augment
from jichu.models.transformers_vision import VISIBLE, layers

from .base import PRETRAINING, Batch, Context, Objective

_FEWEST = 4  # squares along a side, where pixels are hidden
_HEAD = 32  # width of a head of the decoder's attention


class MaskedImages(Objective):
    """Masked autoencoding (He et al., 2021, arXiv 2111.06377): a vision transformer sees the patches that are left, a
    quarter of them if nothing is said, and a narrow decoder of `depth` layers fills in the others. A network of
    convolutions sees the image with squares of it blank, and its maps are decoded by two convolutions (as in SimMIM:
    Xie et al., 2021, arXiv 2111.09886). The loss is the mean squared error over hidden pixels, which are normalised
    by square."""

    task = PRETRAINING
    kinds = ("image",)
    places: Tensor

    def __init__(
        self,
        augment: Augment,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.75,
        width: Annotated[int, Field(ge=4, multiple_of=4)] = 128,
        depth: Annotated[int, Field(ge=1)] = 1,
    ):
        super().__init__()
        self.augment, self.share, self.width, self.depth = augment, share, width, depth
        # places of the backbone, and squares that are hidden, in lines and columns
        self.grid = self.squares = (0, 0)
        self.drops = False  # whether the backbone sees what is left alone
        self.enter: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        self.blank: nn.Parameter | None = None
        self.register_buffer("places", torch.empty(0), persistent=False)

    def bind(self, model: nn.Module, batch: Batch) -> None:
        image = batch["image"]
        channels, sides = image.shape[1], (image.shape[2], image.shape[3])
        found, few = self._trial(model, batch)
        self.drops = few is not None and few.shape[1] == 1 < found.sequence.shape[1]
        if not self.drops and found.maps is None:
            raise UsageError(
                "what is hidden needs places in the image, and this backbone gives one vector for it",
                where="backbone", expected="vit, or a network of convolutions such as cnn or resnet18",
            )  # fmt: skip
        self.grid = _grid(found.sequence.shape[1], sides) if self.drops else tuple(found.maps.shape[2:])
        size = sides[1] // self.grid[1]  # of a place, which is square
        if any(side != size * places for side, places in zip(sides, self.grid, strict=True)):
            raise UsageError(
                f"images of {sides[0]} × {sides[1]} pixels on a grid of {self.grid[0]} × {self.grid[1]} places",
                where="objective", expected=f"a multiple of {self.grid[1]} pixels, as data.size",
            )  # fmt: skip
        self.squares = self.grid
        while (
            not self.drops
            and min(self.squares) < _FEWEST
            and not any(side % (2 * count) for side, count in zip(sides, self.squares, strict=True))
        ):
            self.squares = (2 * self.squares[0], 2 * self.squares[1])
        if min(self.squares) < 2:
            raise UsageError(
                f"images of {sides[0]} × {sides[1]} pixels in one square", where="objective",
                expected="an even data.size",
            )  # fmt: skip
        pixels = channels * size**2
        if self.drops:
            self.enter = nn.Linear(found.sequence.shape[2], self.width)
            self.blank = nn.Parameter(0.02 * torch.randn(self.width))
            self.places = sines(self.grid, self.width)
            heads = next(h for h in range(max(1, self.width // _HEAD), 0, -1) if self.width % h == 0)
            self.decoder = nn.Sequential(layers(self.width, self.depth, heads), nn.Linear(self.width, pixels))
            for module in self.decoder.modules():
                if isinstance(module, nn.Linear):  # as the reference begins
                    nn.init.xavier_uniform_(module.weight)
        else:
            self.decoder = nn.Sequential(
                nn.Conv2d(found.maps.shape[1], self.width, 1), nn.GELU(), nn.Conv2d(self.width, pixels, 1)
            )
        self.to(image.device)

    def _trial(self, model: nn.Module, batch: Batch) -> tuple[Any, Tensor | None]:
        """Features of images, and the sequence where one patch is visible; None where that cannot be."""
        training, image = model.training, batch["image"]
        with torch.no_grad():
            found = model.eval()(batch)["features"]
            visible = torch.zeros(len(image), 1, dtype=torch.int64, device=image.device)
            few = None
            with contextlib.suppress(RuntimeError, ValueError):  # a network that reckons with all of them
                few = model({**batch, VISIBLE: visible})["features"].sequence
        model.train(training)
        return found, few

    def augmented(self, batch: Batch, context: Context) -> Batch:
        """A batch whose `image` [B, C, H, W], a float, augmentation has changed."""
        return {**batch, "image": self.augment(batch["image"], context.for_rows(batch["row"]))}

    def prepare(self, batch: Batch, context: Context) -> Batch:
        batch = self.augmented(batch, context)
        image = batch["image"]
        count = math.prod(self.squares)
        order = context.uniform(batch["row"], count, "masked").argsort(1).to(image.device)
        left = max(1, min(count - 1, round(count * (1 - self.share))))
        visible = order[:, :left].sort(1).values
        hidden = torch.ones(order.shape, dtype=torch.bool, device=image.device).scatter_(1, visible, False)
        prepared = {**batch, "image": image, "truth": image, "hidden": hidden}
        if self.drops:
            return {**prepared, VISIBLE: visible}
        seen = ~self._over_pixels(hidden, image)
        mean = (image * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
        return {**prepared, "image": torch.where(seen, image, mean)}

    def _over_pixels(self, squares: Tensor, image: Tensor) -> Tensor:
        """[B, squares] as [B, 1, H, W]."""
        size = image.shape[2] // self.squares[0]
        whole = squares.unflatten(1, self.squares)[:, None]
        return whole.repeat_interleave(size, 2).repeat_interleave(size, 3)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """images [B, C, H, W] as they are told."""
        features = model(batch)["features"]
        if not self.drops:
            # what lies behind the maps gets a gradient, of zero: several processes wait for one from each parameter
            told = self.decoder(features.maps) + 0 * features.pooled.sum()
        else:
            known, visible = self.enter(features.sequence), batch[VISIBLE]
            assert self.blank is not None
            tokens = self.blank.to(known.dtype).expand(len(known), math.prod(self.grid), -1)
            tokens = tokens.scatter(1, visible[:, :, None].expand_as(known), known) + self.places.to(
                known.dtype
            )
            told = self.decoder(tokens).transpose(1, 2).unflatten(2, self.grid)
        return {"images": nn.functional.pixel_shuffle(told, batch["truth"].shape[2] // self.grid[0])}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        told, truth = (squares(image.float(), self.squares) for image in (outputs["images"], batch["truth"]))
        mean = truth.mean(2, keepdim=True)
        variance = truth.var(
            2, correction=min(1, truth.shape[2] - 1), keepdim=True
        )  # unbiased, as the reference has it
        error = (told - (truth - mean) / (variance + 1e-6).sqrt()).square().mean(2)
        return (error * batch["hidden"]).sum(1) / batch["hidden"].sum(1)


def _grid(places: int, sides: tuple[int, int]) -> tuple[int, int]:
    """Lines and columns of so many square places that fill an image."""
    columns = max(1, round(math.sqrt(places * sides[1] / sides[0])))
    return places // columns, columns


def squares(images: Tensor, along: tuple[int, int]) -> Tensor:
    """Images [B, C, H, W] as squares [B, lines × columns, C × h × w], line by line."""
    size = images.shape[2] // along[0]
    cut = images.unflatten(3, (along[1], size)).unflatten(2, (along[0], size))  # [B, C, lines, h, columns, w]
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def sines(along: tuple[int, int], width: int) -> Tensor:
    """Places [lines × columns, width] on a grid as sines and cosines, half of them of the line, half of the column."""
    rates = 10_000 ** (-torch.arange(width // 4) / (width / 4))
    angles = torch.arange(max(along))[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], 1)  # [the longer, width / 2]
    lines = one[: along[0], None].expand(-1, along[1], -1)
    columns = one[None, : along[1]].expand(along[0], -1, -1)
    return torch.cat([lines, columns], 2).flatten(0, 1)
