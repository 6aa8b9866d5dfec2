"""A recipe of sounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jichu.data.sound import Sound

from .lines import line
from .media import MediaDraft


class SoundsDraft(MediaDraft):
    """Sounds of one rate and length."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        assert isinstance(self.dataset.preprocess, Sound)
        self.rate, self.seconds = self.dataset.preprocess.rate, self.dataset.preprocess.seconds
        self.rows_are = f"sounds, stored as {self.seconds:g} s at {self.rate:,} Hz"
        self.backbone = {"name": "resnet9", "base": 16}
        self.sight = "small and quick, over a spectrogram; wav2vec2-mini hears the waves themselves"
        self.looks, self.width = "bands", 320
        self.augment_means = "moved, faster or slower, louder or softer, parts hidden"

    def data_lines(self) -> Iterator[str]:
        low, _, high = self.found["sounds"]["seconds"]
        if "rate" not in self.given:
            why = "samples a second; the files say so of most sounds, up to 16,000"
            yield line(("rate", self.rate, why))
        if "seconds" not in self.given:
            yield line(("seconds", self.seconds, f"of a sound; the files are {low:.2f} to {high:.2f} long"))
