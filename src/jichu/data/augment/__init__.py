"""Augmentation of whole batches on the device.

All geometry is composed into one affine matrix an image and resampled once; flips and padded crops
alone are exact and need no resampling. Random numbers come from the caller, a row each, so that what
happens to an image does not depend on its batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jichu.data.config import AudioAugmentConfig, AugmentConfig, TableAugmentConfig

from . import colour
from .boxes import erase, sides
from .draws import Uniform, normal
from .floats import to_float
from .geometry import affine, flip, pad_crop, resample
from .policies import Policy
from .sounds import SoundAugment
from .tables import TableAugment

__all__ = ["Augment", "TableAugment", "Uniform", "to_float"]


class Augment:
    """Images [B, C, H, W], uint8 or 0 to 1, to float32 [B, C, H, W] within 0 to 1."""

    def __init__(self, config: AugmentConfig, spread: Tensor | None = None):
        self.config, self.spread = config, spread
        self.most = 1.0  # share of the area that a crop keeps at most
        self.side: int | None = None  # pixels, as before if None
        self.policy = Policy(config.policy) if config.policy else None
        self.table = TableAugment(config.table, spread)
        self.sound = SoundAugment(config.audio)

    def close_up(self, least: float, most: float, side: int) -> Augment:
        """The same changes, of parts that are `least` to `most` of the area, scaled to `side` pixels."""
        close = Augment(self.config.model_copy(update={"crop": least}), self.spread)
        close.most, close.side = most, side
        return close

    def changes(self, kind: str) -> bool:
        """Whether it changes data of a kind, image, audio or table, at all."""
        rest = {"table": TableAugmentConfig(), "audio": AudioAugmentConfig()}
        if kind in rest:
            return getattr(self.config, kind) != rest[kind]
        return self.config.model_copy(update=rest) != AugmentConfig()

    def columns(self, batch: dict[str, Tensor], uniform: Uniform) -> dict[str, Tensor]:
        """Those columns of a batch that augmentation changes, whatever its kind of data."""
        images = {"image": self(batch["image"], uniform)} if "image" in batch else {}
        return {**images, **self.sound(batch, uniform), **self.table(batch, uniform)}

    def __call__(self, images: Tensor, uniform: Uniform) -> Tensor:
        c = self.config
        for name, axis in (("flip", 3), ("flip_vertical", 2)):
            if getattr(c, name):
                images = flip(images, uniform(1, name)[:, 0] < 0.5, axis)
        if c.pad:
            images = pad_crop(images, c.pad, uniform(2, "pad"), c.fill)
        images = to_float(images)
        images = self.moved(images, uniform)
        if self.policy:
            images = self.policy.recolour(images, uniform)
        if c.colour:
            images = colour.jitter(images, c.colour, uniform(3, "colour"))
        if c.hue:
            images = colour.hue(images, c.hue * (2 * uniform(1, "hue")[:, 0] - 1))
        if c.grey:
            chosen = uniform(1, "grey").to(images.device) < c.grey
            images = torch.where(chosen[:, :, None, None], colour.grey(images), images)
        if c.blur:
            images = colour.blur(images, c.blur * uniform(1, "blur")[:, 0])
        if c.noise:
            images = (images + c.noise * normal(uniform, images)).clamp_(0, 1)
        if c.erase:
            images = erase(images, c.erase, uniform)
        return images

    def moved(self, images: Tensor, uniform: Uniform) -> Tensor:
        """Images after all that needs resampling."""
        matrix = self.matrix(uniform, images)
        if self.policy is None:
            return images if matrix is None else resample(images, matrix, self.config.fill, self.side)
        drawn = self.policy.matrix(uniform, images.shape[2] / images.shape[3])
        if matrix is not None:
            return resample(images, matrix @ drawn, self.config.fill, self.side)
        rows = (drawn != torch.eye(3, device=drawn.device)).any(2).any(1).nonzero()[:, 0]
        images = images.clone()
        images[rows] = resample(images[rows], drawn[rows], self.config.fill)
        return images

    def matrix(self, uniform: Uniform, images: Tensor) -> Tensor | None:
        """[B, 3, 3] of the configuration's own geometry (see `geometry`); None where none was asked for."""
        c = self.config
        if not (c.rotate or c.shear or c.translate or c.crop < 1 or c.scale != [1.0, 1.0]):
            return None
        signed = 2 * uniform(5, "affine") - 1  # rotation, shear x, shear y, shift x, shift y
        low, high = c.scale
        zoom = 1 / (low * (high / low) ** uniform(1, "scale")[:, 0])
        shift = 2 * c.translate * signed[:, 3:]
        shear = (math.radians(c.shear) * signed[:, 1:3]).tan()
        matrix = affine(
            math.radians(c.rotate) * signed[:, 0], shear, shift, zoom, images.shape[2] / images.shape[3]
        )
        if c.crop < 1:
            kept = uniform(2, "crop")
            box = sides(
                c.crop + (self.most - c.crop) * kept[:, 0], kept[:, 1], 4 / 3
            )  # as Szegedy et al., 2014
            place = (1 - box) * (2 * uniform(2, "place") - 1)
            cut = torch.diag_embed(torch.cat([box, torch.ones_like(box[:, :1])], dim=1))
            cut[:, :2, 2] = place
            matrix = cut @ matrix
        return matrix.to(images.device)
