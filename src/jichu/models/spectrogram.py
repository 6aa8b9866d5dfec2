"""What a model does to sounds before its backbone sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jichu.data.augment import sounds, to_float
from jichu.data.config import SpectrogramConfig
from jichu.data.sound import Sound
from jichu.data.spectrum import filters, log_mel, transform_size

# of a batch: [B, K, 4], stretches of time and of pitch that are hidden, from and to, 0 to 1
MASKS = sounds.MASKS
_SAMPLE = 2000  # sounds from which mean and deviation are taken
_AT_ONCE = 256
_QUIET = 1e-3  # the least deviation of a wave: of what is silent the noise is not made loud


class Spectrogram(nn.Module):
    """Sounds [B, samples] to log mel spectrograms [B, 1, frames, mels], a line for each time, each band less its mean over
    its deviation.

    Where a batch hides something, that becomes the mean (SpecAugment: Park et al., 2019, arXiv 1904.08779)."""

    gives = "image"
    mean: Tensor
    std: Tensor
    weights: Tensor

    def __init__(self, sound: Sound, config: SpectrogramConfig):
        super().__init__()
        self.sound, self.config = sound, config
        bins = transform_size(sound, config) // 2 + 1
        self.register_buffer("weights", filters(config.mels, bins, sound.rate), persistent=False)
        self.register_buffer("mean", torch.zeros(config.mels, 1))
        self.register_buffer("std", torch.ones(config.mels, 1))

    def forward(self, waves: Tensor, masks: Tensor | None = None) -> Tensor:
        with torch.autocast(waves.device.type, enabled=False):
            energy = log_mel(waves, self.sound, self.config, self.weights)
        found = ((energy - self.mean) / self.std).transpose(1, 2)
        if masks is not None:
            times, bands = hidden(masks[..., :2], found.shape[1]), hidden(masks[..., 2:], found.shape[2])
            found = found.masked_fill(times[:, :, None] | bands[:, None], 0.0)
        return found[:, None].contiguous()

    @torch.no_grad()
    def estimate(self, waves: Tensor, rows: Tensor) -> None:
        """From some rows of waves [N, samples], an even sample where there are many."""
        sample = rows[:: max(1, len(rows) // _SAMPLE)]
        sums = torch.zeros(2, self.config.mels, dtype=torch.double)
        count = 0
        for part in sample.split(_AT_ONCE):
            found = log_mel(waves[part], self.sound, self.config, self.weights).double()
            sums += torch.stack([found.sum((0, 2)), found.square().sum((0, 2))])
            count += found[:, 0].numel()
        mean, square = sums / count
        self.mean.copy_(mean[:, None])
        self.std.copy_((square - mean**2).clamp(min=1e-4).sqrt()[:, None])


class Waves(nn.Module):
    """Sounds [B, samples], int16 or -1 to 1, to zero mean and unit variance each, as wav2vec 2.0 takes them; where a
    batch hides a stretch of time, that is silent."""

    gives = "audio"

    def __init__(self, sound: Sound):
        super().__init__()
        self.sound = sound

    def forward(self, waves: Tensor, masks: Tensor | None = None) -> Tensor:
        waves = to_float(waves)
        waves = waves - waves.mean(1, keepdim=True)
        waves = waves / waves.std(1, keepdim=True, correction=0).clamp(min=_QUIET)
        if masks is not None:
            waves = waves.masked_fill(hidden(masks[..., :2], waves.shape[1]), 0.0)
        return waves

    def estimate(self, waves: Tensor, rows: Tensor) -> None:
        """Nothing: each sound is taken by itself."""


def hidden(spans: Tensor, count: int) -> Tensor:
    """Spans [B, K, 2] from 0 to 1 as a mask [B, count] of the places within one of them."""
    places = (torch.arange(count, device=spans.device) + 0.5) / count
    return ((places >= spans[..., :1]) & (places < spans[..., 1:])).any(1)
