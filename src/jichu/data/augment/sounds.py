"""Augmentation of sounds: moved, played faster or slower, louder or softer, with noise, and partly hidden."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jichu.data.config import AudioAugmentConfig

from .draws import Uniform, normal
from .floats import to_float

MASKS = "audio_masks"
_TONES = 5  # pitches of which the gain is drawn


class SoundAugment:
    """Changes `audio` [B, samples], int16 or -1 to 1, of a batch into float32, and says in `audio_masks` [B, K, 4] what
    the model is not to hear: from and to in time, from and to in pitch, 0 to 1."""

    def __init__(self, config: AudioAugmentConfig):
        self.config = config

    def __call__(self, batch: dict[str, Tensor], uniform: Uniform) -> dict[str, Tensor]:
        """The columns that were changed."""
        c = self.config
        if "audio" not in batch or c == AudioAugmentConfig():
            return {}
        waves = to_float(batch["audio"])
        if c.shift or c.speed:
            waves = self._played(waves, uniform)
        if c.tone:
            waves = self._toned(waves, uniform)
        if c.gain:
            waves = waves * 10 ** (c.gain * (2 * uniform(1, "gain").to(waves.device) - 1) / 20)
        if c.noise:
            level = waves.square().mean(1, keepdim=True).sqrt()
            strength = c.noise * uniform(1, "noise").to(waves.device)
            waves = waves + strength * level * normal(uniform, waves)
        found = {"audio": waves}
        if c.times or c.bands:
            before = [batch[MASKS]] if MASKS in batch else []
            found[MASKS] = torch.cat([*before, self._masks(uniform).to(waves.device)], 1)
        return found

    def _played(self, waves: Tensor, uniform: Uniform) -> Tensor:
        """Each at a speed and from a place of its own, read between its samples; silence before and after."""
        drawn = 2 * uniform(2, "played").to(waves.device) - 1
        speed = torch.exp(math.log1p(self.config.speed) * drawn[:, :1])
        start = self.config.shift * waves.shape[1] * drawn[:, 1:]
        places = torch.arange(waves.shape[1], device=waves.device) * speed + start
        before = places.floor()
        share = places - before
        first = before.long()
        found = torch.zeros_like(waves)
        for index, weight in ((first, 1 - share), (first + 1, share)):
            there = (index >= 0) & (index < waves.shape[1])
            found += waves.gather(1, index.clamp(0, waves.shape[1] - 1)) * weight * there
        return found

    def _toned(self, waves: Tensor, uniform: Uniform) -> Tensor:
        """Each through a filter whose gain, in decibels, goes straight from one drawn number to the next over pitch, for
        which the root of the frequency stands."""
        spectrum = torch.fft.rfft(waves)
        drawn = self.config.tone * (2 * uniform(_TONES, "tone").to(waves.device) - 1)
        place = torch.linspace(0, 1, spectrum.shape[1], device=waves.device).sqrt() * (_TONES - 1)
        before = place.long().clamp(max=_TONES - 2)
        decibels = torch.lerp(drawn[:, before], drawn[:, before + 1], place - before)
        return torch.fft.irfft(spectrum * 10 ** (decibels / 20), waves.shape[1])

    def _masks(self, uniform: Uniform) -> Tensor:
        c = self.config
        count = c.times + c.bands
        drawn = uniform(2 * count, "masks").unflatten(1, (count, 2))
        long = c.hidden * drawn[..., 0]
        start = (1 - long) * drawn[..., 1]
        spans = torch.stack([start, start + long], dim=2)
        nothing = torch.zeros_like(spans)
        of_time = (torch.arange(count) < c.times)[:, None]
        return torch.cat([torch.where(of_time, spans, nothing), torch.where(of_time, nothing, spans)], dim=2)
