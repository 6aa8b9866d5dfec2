"""What pixels look like: images [B, C, H, W] from 0 to 1, a strength [B] for each.

Factors and degenerate images are those of PIL's ImageEnhance, which the policies are defined by:
1 leaves an image as it is, 0 gives black (brightness), flat grey (contrast), grey (saturation) or
smooth (sharpness).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def grey(images: Tensor) -> Tensor:
    """The luma in every channel; images that have not three channels are left."""
    if images.shape[1] != 3:
        return images
    luma = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * luma).sum(1, keepdim=True).expand_as(images)


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(degenerate, images, factor.to(images.device)[:, None, None, None]).clamp_(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from black."""
    return _blend(torch.zeros_like(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean luma."""
    mean = grey(images.mean(dim=(2, 3), keepdim=True)).mean(1, keepdim=True)
    return _blend(mean, images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from grey."""
    return _blend(grey(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from a mean over 3 × 3 pixels, the middle one counted five times; the border stays."""
    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        smooth[:, :, 1:-1, 1:-1] = (9 * F.avg_pool2d(images, 3, 1) + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return _blend(smooth, images, factor)


def jitter(images: Tensor, strength: float, uniform: Tensor) -> Tensor:
    """Brightness, contrast and saturation by factors within 1 ± strength; `uniform` is [B, 3]."""
    factors = 1 + strength * (2 * uniform - 1)
    for change, factor in zip((brightness, contrast, saturation), factors.unbind(1), strict=True):
        images = change(images, factor)
    return images


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Colours turned by a share [B] of the circle of HSV; without three channels nothing is to turn."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    some = chroma.clamp(min=1e-12)
    sixth = torch.where(
        value == red,
        (green - blue) / some,
        torch.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some),
    )
    sixth = sixth + 6 * turn.to(images.device)[:, None, None]
    corners = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    place = (sixth[:, None] + corners) % 6
    return (value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)).clamp_(0, 1)


def blur(images: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian blur by `deviation` [B] pixels; at the border, a mean over what lies inside."""
    for axis in (2, 3):
        place = torch.arange(images.shape[axis], device=images.device)
        square = (place[:, None] - place).square()
        spread = 2 * deviation.to(images.device).clamp(min=1e-3).square()
        weights = (-square / spread[:, None, None]).softmax(-1)[:, None]
        images = weights @ images if axis == 2 else images @ weights.mT
    return images.clamp(0, 1)


def _levels(images: Tensor) -> Tensor:
    """Grey levels 0 to 255, int64."""
    return (images * 255).round().long()


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched to reach from 0 to 1."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-12), images)


def equalize(images: Tensor) -> Tensor:
    """Each channel's levels moved so that all are about equally frequent."""
    levels = _levels(images).flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    last = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(2, levels), levels).view_as(images) / 255


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the highest `bits` [B], 0 to 8, of each level."""
    kept = (256 - 2 ** (8 - bits.to(images.device).long()))[:, None, None, None]
    return (_levels(images) & kept) / 255


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Levels from `threshold` [B] of 256 upwards become their negative."""
    limit = threshold.to(images.device)[:, None, None, None]
    return torch.where(images * 255 < limit, images, 1 - images)
