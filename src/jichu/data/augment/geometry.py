"""Where pixels go: exact moves by indexing, everything else as one affine matrix an image.

A matrix [B, 3, 3] leads from places in the result to places in the image, both from -1 to 1 with the
middle at 0. The matrix of one move after another is their product, so images are resampled once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Mirror the chosen images."""
    rows = torch.arange(len(images), device=images.device)
    both = torch.cat([images, images.flip(axis)])
    return both.index_select(0, rows + len(images) * chosen.to(images.device))  # copies whole images


def pad_crop(images: Tensor, pad: int, place: Tensor, fill: str) -> Tensor:
    """Add `pad` pixels on every side and cut the old size out at `place` [B, 2], y and x in [0, 1)."""
    height, width = images.shape[2:]
    padded = F.pad(images, (pad, pad, pad, pad))
    if fill != "zeros":
        for axis, side in ((2, height), (3, width)):
            outside = torch.cat([torch.arange(pad), torch.arange(side + pad, side + 2 * pad)])
            source = pad + _inside(outside - pad, side, fill)
            padded.index_copy_(
                axis, outside.to(images.device), padded.index_select(axis, source.to(images.device))
            )
    batch, channels, tall, wide = padded.shape
    top, left = (place.to(images.device) * (2 * pad + 1)).long()[:, :, None].unbind(1)
    lines = torch.arange(batch * channels, device=images.device).view(batch, channels) * tall + top
    starts = (lines[:, :, None] + torch.arange(height, device=images.device)) * wide + left[:, :, None]
    # every line of the result is `width` pixels in a row from its start
    return padded.flatten().unfold(0, width, 1).index_select(0, starts.flatten()).view_as(images)


def _inside(places: Tensor, side: int, fill: str) -> Tensor:
    """The pixel that is seen at a place outside of an image with `side` pixels."""
    if fill == "border":
        return places.clamp(0, side - 1)
    folded = places.remainder(2 * side)
    return torch.minimum(folded, 2 * side - 1 - folded)


def affine(angle: Tensor, shear: Tensor, shift: Tensor, zoom: Tensor, aspect: float) -> Tensor:
    """[B, 3, 3] of a rotation by `angle` [B] radians after a shear by `shear` [B, 2] and an enlargement
    of what is seen by `zoom` [B], moved by `shift` [B, 2] half sides; `aspect` is height / width."""
    cos, sin, one = angle.cos(), angle.sin(), torch.ones_like(angle)
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    slant = torch.stack([one, shear[:, 0], shear[:, 1], one], dim=1).view(-1, 2, 2)
    square = torch.tensor([[1.0, aspect], [1 / aspect, 1.0]], device=angle.device)
    linear = rotation @ slant * zoom[:, None, None] * square
    last = torch.tensor([0.0, 0.0, 1.0], device=angle.device).expand(len(angle), 1, 3)
    return torch.cat([torch.cat([linear, shift[:, :, None]], dim=2), last], dim=1)


def resample(images: Tensor, matrix: Tensor, fill: str = "border", side: int | None = None) -> Tensor:
    """Bilinear; of the same size, or `side` pixels in height and width. The grid is a sum and not a matrix product, whose last digits may depend on the batch."""
    height, width = (side, side) if side else images.shape[2:]
    matrix = matrix.to(images.device)[:, :, :, None, None]
    y, x = (
        (2 * torch.arange(side, device=images.device) + 1) / side - 1 for side in (height, width)
    )  # centres of pixels
    place = [matrix[:, i, 0] * x + matrix[:, i, 1] * y[:, None] + matrix[:, i, 2] for i in (0, 1)]
    grid = torch.stack(place, dim=3)
    return F.grid_sample(images, grid, padding_mode=fill, align_corners=False).clamp_(0, 1)
