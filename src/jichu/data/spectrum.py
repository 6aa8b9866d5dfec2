"""Log mel spectrograms: how much of each pitch is heard when."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .augment.floats import to_float
from .config import SpectrogramConfig
from .sound import Sound

_FLOOR = 1e-8  # of the energy, the loudest tone having 1/4: 74 dB below it
_MULTIPLE = 16  # frames are a multiple of it, so that patches and halvings divide them
_HEARD = 20.0  # Hz, the lowest pitch


def frames(sound: Sound, config: SpectrogramConfig) -> int:
    """How many looks at a sound there are."""
    return max(1, math.ceil(sound.samples / step(sound, config) / _MULTIPLE)) * _MULTIPLE


def step(sound: Sound, config: SpectrogramConfig) -> int:
    """Samples from one look to the next."""
    return max(1, round(config.hop * sound.rate))


def filters(mels: int, bins: int, rate: int) -> Tensor:
    """Triangles [mels, bins] over the frequencies 0 to rate / 2, evenly spaced on the mel scale (2595 log10(1 + f /
    700), as in HTK), each of height 1. A band narrower than a bin has the nearest one."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    places = torch.linspace(mel(_HEARD), mel(rate / 2), mels + 2, dtype=torch.double)
    edges = 700 * (10 ** (places / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, bins, dtype=torch.double)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    found = torch.minimum(rising, falling).clamp(min=0)
    empty = (found.sum(1) == 0).nonzero()[:, 0]
    found[empty, (frequencies - edges[1:-1, None]).abs().argmin(1)[empty]] = 1
    return found.float()


def log_mel(waves: Tensor, sound: Sound, config: SpectrogramConfig, weights: Tensor) -> Tensor:
    """Waves [B, samples], int16 or -1 to 1, to [B, mels, frames]: the logarithm of the energy in each band, from a Hann
    window around each place. `weights` are `filters`."""
    waves = to_float(waves)
    size, hop, looks = 2 * (weights.shape[1] - 1), step(sound, config), frames(sound, config)
    long = min(size, max(2, round(config.window * sound.rate)))
    window = torch.hann_window(long, device=waves.device)
    waves = F.pad(waves.float(), (size // 2, looks * hop - waves.shape[1] + size // 2))
    if not waves.shape[0]:  # of which torch makes no transform
        return waves.new_zeros(0, len(weights), looks)
    found = torch.stft(waves, size, hop, long, window, center=False, return_complex=True)[..., :looks]
    energy = found.real.square() + found.imag.square()
    return (weights @ energy / window.sum().square() + _FLOOR).log()


def transform_size(sound: Sound, config: SpectrogramConfig) -> int:
    """Of the Fourier transform, in samples: the next power of two from the window on."""
    return 2 ** max(1, math.ceil(math.log2(config.window * sound.rate)))


def pictures(waves: Tensor, sound: Sound, config: SpectrogramConfig | None = None) -> Tensor:
    """Waves [B, samples] as pictures uint8 [B, 1, mels, frames], high pitches above, loud ones bright."""
    config = config or SpectrogramConfig()
    weights = filters(config.mels, transform_size(sound, config) // 2 + 1, sound.rate)
    found = log_mel(waves, sound, config, weights).flip(1)
    low = math.log(_FLOOR)
    return ((found - low) / (math.log(0.25) - low) * 255).clamp(0, 255).to(torch.uint8)[:, None]
