"""The fifteen common corruptions of images (Hendrycks and Dietterich, 2019, arXiv 1903.12261) with the strengths of
CIFAR-10-C; lengths, there in pixels of 32, grow with the image. Each takes images [B, C, H, W] from 0 to 1. Frost is drawn
here, where the authors lay photographs of it over the image."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from jichu.data.augment.colour import blur, grey
from jichu.data.augment.geometry import affine, resample

_SIDE = 32  # pixels of the images that the strengths were made for
_WIDE = 25  # places to a side, from which a filter is quicker by its spectrum


def _of(strength: int, *values: Any) -> Any:
    return values[strength - 1]


def _scale(x: Tensor) -> float:
    return min(x.shape[2:]) / _SIDE


def _rand(x: Tensor, rng: Generator, *shape: int) -> Tensor:
    return torch.rand(shape or x.shape, generator=rng).to(x.device)


def _randn(x: Tensor, rng: Generator, *shape: int) -> Tensor:
    return torch.randn(shape or x.shape, generator=rng).to(x.device)


def gaussian_noise(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Of a sensor in low light."""
    return (x + _of(strength, 0.04, 0.06, 0.08, 0.09, 0.10) * _randn(x, rng)).clamp(0, 1)


def shot_noise(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """So many photons for full brightness."""
    photons = _of(strength, 500, 250, 100, 75, 50)
    return (torch.poisson(x.cpu() * photons, generator=rng).to(x.device) / photons).clamp(0, 1)


def impulse_noise(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Values that are 0 or 1."""
    share = _of(strength, 0.01, 0.02, 0.03, 0.05, 0.07)
    drawn = _rand(x, rng)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn < share, 1.0, x))


def defocus_blur(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Each point becomes a disc."""
    radius, soft = _of(strength, (0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    radius, soft = radius * _scale(x), soft * _scale(x)
    reach = math.ceil(radius) + max(1, math.ceil(2 * soft))
    place = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    disc = (place[:, None].square() + place.square() <= radius**2).to(x.dtype)[None, None]
    weights = blur(disc, torch.full((1,), soft))[0]  # its edge is soft
    return _filtered(x, (weights / weights.sum()).expand(len(x), -1, -1))


def glass_blur(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Seen through frosted glass: neighbours change places."""
    deviation, rounds = _of(strength, (0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
    found = _blurred(x, deviation * _scale(x))
    height, width = x.shape[2:]
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    reach = max(1, round(_scale(x)))
    for _ in range(rounds):
        moved = torch.randint(-reach, reach, (2, len(x), height, width), generator=rng).to(x.device)
        place = (rows + moved[0]).clamp(0, height - 1) * width + (columns + moved[1]).clamp(0, width - 1)
        found = found.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return _blurred(found, deviation * _scale(x))


def motion_blur(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """The camera moved, in a direction of its own for each image."""
    radius, deviation = _of(strength, (6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    return _moved(x, radius, deviation, rng)


def zoom_blur(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """The camera came nearer meanwhile."""
    most = _of(strength, 0.06, 0.11, 0.16, 0.21, 0.26)
    seen = [x, *(_zoomed(x, 1 + z) for z in np.arange(0, most, 0.01))]
    return torch.stack(seen).mean(0)


def snow(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Flakes that fall, and an image that is paler."""
    mean, spread, zoom, least, radius, deviation, kept = _of(
        strength, (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )  # fmt: skip
    flakes = _zoomed(mean + spread * _randn(x, rng, len(x), 1, *x.shape[2:]), zoom, clamp=False)
    flakes = _moved(torch.where(flakes < least, 0.0, flakes).clamp(0, 1), radius, deviation, rng, down=True)
    pale = kept * x + (1 - kept) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return (pale + flakes + flakes.flip(2, 3)).clamp(0, 1)


def frost(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Crystals on the pane: bright veins along the edges of cells."""
    kept, ice = _of(strength, (1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
    cells = _rand(x, rng, len(x), 24, 2)
    place = torch.stack(
        torch.meshgrid(*(torch.linspace(0, 1, n, device=x.device) for n in x.shape[2:]), indexing="ij"), -1
    )
    away = (place[None, :, :, None] - cells[:, None, None]).norm(dim=-1).topk(2, largest=False).values
    veins = torch.exp(-(away[..., 1] - away[..., 0]) * 18)[:, None]
    crystals = (0.45 + 0.55 * veins) * (0.6 + 0.4 * _clouds(x, 1.6, rng))
    return (kept * x + ice * crystals).clamp(0, 1)


def fog(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Clouds over the image."""
    thick, decay = _of(strength, (0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
    brightest = x.amax((1, 2, 3), keepdim=True)
    return ((x + thick * _clouds(x, decay, rng)) * brightest / (brightest + thick)).clamp(0, 1)


def brightness(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """The largest channel of each pixel raised, the others in proportion."""
    highest = x.amax(1, keepdim=True)
    raised = (highest + _of(strength, 0.05, 0.1, 0.15, 0.2, 0.3)).clamp(max=1)
    return torch.where(highest > 0, x * raised / highest.clamp(min=1e-12), raised).clamp(0, 1)


def contrast(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Nearer to the mean of each channel."""
    mean = x.mean((2, 3), keepdim=True)
    return ((x - mean) * _of(strength, 0.75, 0.5, 0.4, 0.3, 0.15) + mean).clamp(0, 1)


def elastic(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Stretched and bent."""
    bent, smooth, skewed = _of(
        strength, (0, 1, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)
    )
    height, width = x.shape[2:]
    matrix = torch.eye(3, device=x.device)[:2] + 2 * skewed * (2 * _rand(x, rng, len(x), 2, 3) - 1)
    field = _blurred(2 * _rand(x, rng, len(x), 2, height, width) - 1, smooth * height, clamp=False) * 2 * bent
    grid = F.affine_grid(matrix, [len(x), 1, height, width], align_corners=False) + field.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


def pixelate(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Fewer pixels, as large as before."""
    share = _of(strength, 0.95, 0.9, 0.85, 0.75, 0.65)
    small = [max(1, int(share * side)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, small, mode="area"), x.shape[2:], mode="nearest-exact")


def jpeg(x: Tensor, strength: int, rng: Generator) -> Tensor:
    """Compressed with a quality of 80 to 40."""
    from PIL import Image

    quality = _of(strength, 80, 65, 58, 50, 40)
    found = []
    for image in (x * 255).round().to(torch.uint8).cpu():
        mode = "L" if len(image) == 1 else "RGB"
        pixels = image[0].numpy() if mode == "L" else image[:3].permute(1, 2, 0).contiguous().numpy()
        stored = io.BytesIO()
        Image.fromarray(pixels, mode).save(stored, "JPEG", quality=quality)
        back = torch.from_numpy(np.array(Image.open(stored)).reshape(*image.shape[1:], -1)).permute(2, 0, 1)
        found.append(torch.cat([back, image[3:]]) if len(image) > 3 else back)
    return torch.stack(found).to(x.device).float() / 255


def _blurred(x: Tensor, deviation: float, clamp: bool = True) -> Tensor:
    if clamp:
        return blur(x, torch.full((len(x),), deviation))
    low, high = x.min(), x.max()  # the blur is for images from 0 to 1
    return blur((x - low) / (high - low), torch.full((len(x),), deviation)) * (high - low) + low


def _filtered(x: Tensor, weights: Tensor) -> Tensor:
    """Each image [B, C, H, W] filtered by its own weights [B, k, k], the border reflected."""
    channels, reach = x.shape[1], weights.shape[-1] // 2
    mode = "reflect" if reach < min(x.shape[2:]) else "replicate"
    wide = F.pad(x, [reach] * 4, mode=mode)
    if weights.shape[-1] >= _WIDE:
        size = wide.shape[2:]
        spectrum = torch.fft.rfft2(wide) * torch.fft.rfft2(weights, s=size)[:, None].conj()
        return torch.fft.irfft2(spectrum, s=size)[..., : x.shape[2], : x.shape[3]].clamp(0, 1)
    filters = weights.repeat_interleave(channels, 0)[:, None]
    return F.conv2d(wide.flatten(0, 1)[None], filters, groups=len(filters)).view_as(x).clamp(0, 1)


def _moved(x: Tensor, radius: float, deviation: float, rng: Generator, down: bool = False) -> Tensor:
    """Blurred along a line at an angle of its own, from -45° to 45°, or downwards, from 45° to 135°."""
    reach = max(1, round(radius * _scale(x)))
    angle = math.pi / 4 * (2 * _rand(x, rng, len(x)) - 1) + (math.pi / 2 if down else 0)
    steps = torch.arange(2 * reach + 1, device=x.device, dtype=x.dtype)
    weight = torch.exp(-(steps / (deviation * _scale(x))).square() / 2)
    place = torch.stack([angle.sin(), angle.cos()])[..., None] * steps  # [2, B, steps], from the middle on
    found = torch.zeros(len(x), 2 * reach + 1, 2 * reach + 1, device=x.device)
    cell = place.round().long().clamp(-reach, reach) + reach
    found.view(len(x), -1).scatter_add_(1, cell[0] * (2 * reach + 1) + cell[1], weight.expand(len(x), -1))
    return _filtered(x, found / found.sum((1, 2), keepdim=True))


def _zoomed(x: Tensor, factor: float, clamp: bool = True) -> Tensor:
    """The middle, as large as the whole was."""
    if not clamp:
        low, high = x.min(), x.max()
        return _zoomed((x - low) / (high - low), factor) * (high - low) + low
    still = torch.zeros(len(x))
    zoom = torch.full((len(x),), 1 / factor)
    aspect = x.shape[2] / x.shape[3]
    return resample(x, affine(still, torch.zeros(len(x), 2), torch.zeros(len(x), 2), zoom, aspect))


def _clouds(x: Tensor, decay: float, rng: Generator) -> Tensor:
    """[B, 1, H, W] from 0 to 1: noise of ever finer grain, each finer one `decay` times weaker."""
    height, width = x.shape[2:]
    found, grain, weight = torch.zeros(len(x), 1, height, width, device=x.device), 2, 1.0
    while grain <= max(height, width):
        noise = _rand(x, rng, len(x), 1, grain, grain)
        found = found + weight * F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
        grain, weight = 2 * grain, weight / decay
    low, high = found.amin((1, 2, 3), keepdim=True), found.amax((1, 2, 3), keepdim=True)
    return (found - low) / (high - low).clamp(min=1e-12)
