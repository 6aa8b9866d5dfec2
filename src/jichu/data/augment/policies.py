"""Operations drawn at random for each image, from one list of fourteen.

RandAugment (Cubuk et al., 2019, arXiv 1909.13719): n of them, all of one strength. TrivialAugment
(Müller and Hutter, 2021, arXiv 2103.10158): one, of a random strength, from a wider range.

What moves pixels becomes part of the image's one affine matrix; what recolours them is then applied,
in the order drawn, to those rows alone that drew it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from jichu.data.config import RandAugmentConfig, TrivialAugmentConfig

from . import colour
from .draws import Uniform
from .geometry import affine

PolicyConfig = RandAugmentConfig | TrivialAugmentConfig


class Extent(NamedTuple):
    """What full strength is."""

    rotate: float  # degrees
    shear: float  # sideways for each pixel down
    translate: float  # share of the side: 150 of 331 pixels in AutoAugment
    factor: float  # added to or taken from a factor of 1
    bits: float  # taken away


NARROW = Extent(rotate=30, shear=0.3, translate=0.45, factor=0.9, bits=4)
WIDE = Extent(rotate=135, shear=0.99, translate=0.45, factor=0.99, bits=6)

# Each takes images [R, C, H, W], strengths [R] from -1 to 1, and the extent.
_RECOLOURS: dict[str, Callable[[Tensor, Tensor, Extent], Tensor]] = {
    "autocontrast": lambda x, s, e: colour.autocontrast(x),
    "equalize": lambda x, s, e: colour.equalize(x),
    "solarize": lambda x, s, e: colour.solarize(x, 256 * (1 - s.abs())),
    "posterize": lambda x, s, e: colour.posterize(x, 8 - (s.abs() * e.bits).round()),
    "colour": lambda x, s, e: colour.saturation(x, 1 + e.factor * s),
    "contrast": lambda x, s, e: colour.contrast(x, 1 + e.factor * s),
    "brightness": lambda x, s, e: colour.brightness(x, 1 + e.factor * s),
    "sharpness": lambda x, s, e: colour.sharpness(x, 1 + e.factor * s),
}
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*_RECOLOURS, *_MOVES, "identity")


class Policy:
    """Draws operations, a matrix of those that move, and the images recoloured by the others."""

    def __init__(self, config: PolicyConfig):
        self.config = config
        self.extent = NARROW if isinstance(config, RandAugmentConfig) else WIDE

    def draw(self, uniform: Uniform) -> tuple[Tensor, Tensor]:
        """Numbers of operations [n, B], and strengths [n, B] from -1 to 1."""
        n = self.config.operations if isinstance(self.config, RandAugmentConfig) else 1
        which, sign, size = uniform(3 * n, "policy").T.reshape(n, 3, -1).unbind(1)
        if isinstance(self.config, RandAugmentConfig):
            size = torch.full_like(size, self.config.magnitude / 10)
        return (which * len(OPERATIONS)).long(), torch.where(sign < 0.5, size, -size)

    def matrix(self, uniform: Uniform, aspect: float) -> Tensor:
        """[B, 3, 3], the identity for images that drew nothing that moves."""
        extent, moves = self.extent, []
        for operation, strength in zip(*self.draw(uniform), strict=True):
            angle, shear_x, shear_y, shift_x, shift_y = (
                torch.where(operation == OPERATIONS.index(name), strength, 0.0) for name in _MOVES
            )
            shear = extent.shear * torch.stack([shear_x, shear_y], dim=1)
            shift = 2 * extent.translate * torch.stack([shift_x, shift_y], dim=1)
            angle = math.radians(extent.rotate) * angle
            moves.append(affine(angle, shear, shift, torch.ones_like(angle), aspect))
        return functools.reduce(torch.matmul, moves)

    def recolour(self, images: Tensor, uniform: Uniform) -> Tensor:
        """Images 0 to 1 after the operations that do not move."""
        operations, strengths = (drawn.to(images.device) for drawn in self.draw(uniform))
        # one transfer says how many rows drew what; no operation has to ask the device again
        counts = torch.nn.functional.one_hot(operations, len(OPERATIONS)).sum(1).tolist()
        images = images.clone()
        for count, order, strength in zip(counts, operations.argsort(dim=1), strengths, strict=True):
            for name, rows in zip(OPERATIONS, order.split(count), strict=True):
                if len(rows) and name in _RECOLOURS:
                    images[rows] = _RECOLOURS[name](images[rows], strength[rows], self.extent)
        return images
