"""A recipe of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jichu.data.decode import Preprocess

from .lines import line
from .media import MediaDraft


class ImagesDraft(MediaDraft):
    """Images of one size."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        assert isinstance(self.dataset.preprocess, Preprocess)
        self.size, channels = self.dataset.preprocess.size, self.dataset.preprocess.channels
        self.rows_are = f"images, stored as {self.size}×{self.size}"
        self.backbone = {"name": "resnet9", "base": 16} if self.size >= 16 else "cnn"
        self.sight = f"small and quick, for images of {self.size} pixels; resnet18 if there is a GPU"
        self.looks, self.width = "pixels", channels * self.size**2
        self.augment_means = "grey: turned, shifted, scaled, not mirrored"
        if channels == 3:
            self.augment_means = "in colour: mirrored, cropped, recoloured"

    def data_lines(self) -> Iterator[str]:
        if "size" not in self.given:
            low, middle, high = self.found["images"]["height"]
            files = f"{low} to {high} high, half of them below {middle}" if low < high else f"{low} high"
            yield line(("size", self.size, f"pixels of a side; the files are {files}"))
