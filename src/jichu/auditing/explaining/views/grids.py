"""Images by pixel, and sounds by time and pitch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from jichu.data.augment import to_float
from jichu.models.spectrogram import Spectrogram

from .base import Asked, View


class Grid(View):
    """[B, C, H, W] of which places are [H, W]; the `baselines` are what the model takes for the mean."""

    def _of(self, values: Tensor, mean: Tensor) -> None:
        self.points, self.baselines = (values,), (mean.expand_as(values).contiguous(),)
        self.shape = tuple(values.shape[2:])

    def at(self, points: list[Tensor], rows: Tensor) -> Tensor:
        return self.run({"image": points[0]})

    def partly(self, present: Tensor, rows: Tensor) -> Tensor:
        values, nothing = self.points[0][rows], self.baselines[0][rows]
        return self.run({"image": torch.where(present[:, None], values, nothing)})

    def places(self, found: tuple[Tensor, ...]) -> Tensor:
        return found[0].sum(1)


class Images(Grid):
    """Pixels from 0 to 1."""

    kind = "image"

    def __init__(self, asked: Asked, batch: dict[str, Tensor]):
        super().__init__(asked, batch)
        self._of(to_float(batch["image"]), cast(Tensor, asked.model.inputs["image"].mean))


class Spectrograms(Grid):
    """The log mel spectrogram that the model makes of a sound, by frame and band; 0 is each band's mean. A model that is
    given the picture makes none."""

    kind = "audio"

    def __init__(self, asked: Asked, batch: dict[str, Tensor]):
        super().__init__(asked, batch)
        with torch.no_grad():
            made = asked.model.inputs(batch)["image"]
        self._of(made, made.new_zeros(()))


class Waves(View):
    """Sounds by hundredths of a second; nothing is silence."""

    kind = "audio"

    def __init__(self, asked: Asked, batch: dict[str, Tensor], rate: int):
        super().__init__(asked, batch)
        waves = to_float(batch["audio"])
        self.points, self.baselines = (waves,), (torch.zeros_like(waves),)
        self.samples = max(1, rate // 100)
        self.shape = (-(-waves.shape[1] // self.samples),)

    def window(self) -> tuple[int, ...]:
        return (-(-self.shape[0] // 32),)

    def at(self, points: list[Tensor], rows: Tensor) -> Tensor:
        return self.run({"audio": points[0]})

    def partly(self, present: Tensor, rows: Tensor) -> Tensor:
        waves = self.points[0][rows]
        heard = present.repeat_interleave(self.samples, 1)[:, : waves.shape[1]]
        return self.run({"audio": waves * heard})

    def places(self, found: tuple[Tensor, ...]) -> Tensor:
        (waves,) = found
        padded = torch.nn.functional.pad(waves, (0, self.shape[0] * self.samples - waves.shape[1]))
        return padded.view(len(waves), *self.shape, self.samples).sum(2)


def sounds(asked: Asked, batch: dict[str, Tensor]) -> View:
    """The view of a model that hears: of its spectrogram where it looks at one."""
    heard: Any = asked.model.inputs["audio"]
    if isinstance(heard, Spectrogram):
        return Spectrograms(asked, batch)
    return Waves(asked, batch, heard.sound.rate)
