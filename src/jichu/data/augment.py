"""Augmentation of whole batches on the device.

All geometry is composed into one affine matrix an image and resampled once. Random numbers come
from the caller, a row each, so that what happens to an image does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import AugmentConfig

Uniform = Callable[[int, str], Tensor]  # (n, salt) -> [B, n] in [0, 1)

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Augment:
    """Images [B, C, H, W], uint8 or 0 to 1, to float32 [B, C, H, W] within 0 to 1."""

    def __init__(self, config: AugmentConfig):
        self.config = config

    def __call__(self, images: Tensor, uniform: Uniform) -> Tensor:
        images = to_float(images)
        matrix = self.matrix(uniform, images)
        if matrix is not None:
            images = resample(images, matrix)
        c = self.config
        if c.flip:
            images = flip(images, uniform(1, "flip")[:, 0] < 0.5, 3)
        if c.flip_vertical:
            images = flip(images, uniform(1, "flip_vertical")[:, 0] < 0.5, 2)
        if c.colour:
            images = jitter(images, c.colour, uniform(3, "colour"))
        if c.grey:
            images = torch.where(pick(uniform(1, "grey")[:, 0] < c.grey, images), grey(images), images)
        if c.noise:
            images = images + c.noise * normal(uniform, images)
        return images.clamp(0, 1)

    def matrix(self, uniform: Uniform, images: Tensor) -> Tensor | None:
        """[B, 2, 3] from places in the result to places in the image, both from -1 to 1 with the
        middle at 0; None where no geometry was asked for."""
        c, like = self.config, images
        if not (c.rotate or c.shear or c.translate or c.crop < 1 or c.scale != [1.0, 1.0]):
            return None
        signed = 2 * uniform(5, "affine") - 1  # rotation, shear x, shear y, shift x, shift y
        angle, shear_x, shear_y = (
            math.radians(most) * signed[:, i] for i, most in enumerate((c.rotate, c.shear, c.shear))
        )
        aspect = images.shape[2] / images.shape[3]
        low, high = c.scale
        zoom = 1 / (low * (high / low) ** uniform(1, "scale")[:, 0])
        cos, sin, one = angle.cos(), angle.sin(), torch.ones_like(angle)
        rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
        shear = torch.stack([one, shear_x.tan(), shear_y.tan(), one], dim=1).view(-1, 2, 2)
        linear = rotation @ shear * zoom[:, None, None]
        shift = 2 * c.translate * signed[:, 3:5]
        if c.crop < 1:
            kept, place = uniform(2, "crop"), 2 * uniform(2, "place") - 1
            area = c.crop + (1 - c.crop) * kept[:, :1]
            ratio = (3 / 4) * (16 / 9) ** kept[:, 1:]  # log-uniform from 3:4 to 4:3 (Szegedy et al., 2014)
            box = torch.cat([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
            linear = linear * box[:, :, None]
            shift = shift + (1 - box) * place
        scale = torch.tensor([[1.0, aspect], [1 / aspect, 1.0]], device=like.device)
        return torch.cat([linear.to(like.device) * scale, shift.to(like.device)[:, :, None]], dim=2)


def to_float(images: Tensor) -> Tensor:
    """uint8 0 to 255 becomes float32 0 to 1; floats are left."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear; what lies outside repeats the border."""
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def pick(chosen: Tensor, images: Tensor) -> Tensor:
    """A mask [B] shaped to fit images [B, C, H, W]."""
    return chosen.to(images.device)[:, None, None, None]


def flip(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Mirror the chosen images."""
    return torch.where(pick(chosen, images), images.flip(axis), images)


def grey(images: Tensor) -> Tensor:
    """The luma in every channel."""
    if images.shape[1] != 3:
        return images
    luma = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * luma).sum(1, keepdim=True).expand_as(images)


def jitter(images: Tensor, strength: float, uniform: Tensor) -> Tensor:
    """Brightness, contrast and saturation, each multiplied by a factor within 1 ± strength."""
    factors = (1 + strength * (2 * uniform - 1)).to(images.device)
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    if images.shape[1] == 3:
        images = torch.lerp(grey(images), images, saturation)
    return images


def normal(uniform: Uniform, like: Tensor) -> Tensor:
    """Standard normal numbers of the shape of `like` (Box and Muller, 1958)."""
    count = like[0].numel()
    radius = (-2 * (1 - uniform(count, "radius")).log()).sqrt()
    return (radius * (2 * math.pi * uniform(count, "angle")).cos()).view_as(like).to(like.device)
