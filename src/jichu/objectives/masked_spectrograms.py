"""Masked spectrograms: most of a sound is hidden, and a small decoder is to tell it from the rest."""

from __future__ import annotations

import torch
from torch import nn

from jichu.core.errors import UsageError
from jichu.data.config import AudioAugmentConfig, AugmentConfig
from jichu.models.spectrogram import Spectrogram

from .base import Batch, Context
from .masked_images import MaskedImages


class MaskedSpectrograms(MaskedImages):
    """`masked-images` of log mel spectrograms (Huang et al., 2022, arXiv 2207.06405): patches of time and pitch are
    hidden, and told from the others, each normalised."""

    kinds = ("audio",)
    suits = AugmentConfig(audio=AudioAugmentConfig(shift=0.1, speed=0.1, gain=6))

    def bind(self, model: nn.Module, batch: Batch) -> None:
        found = [module for module in model.modules() if isinstance(module, Spectrogram)]
        if not found:
            raise UsageError(
                "masked-spectrograms hides parts of spectrograms, and this backbone looks at none",
                where="backbone", expected="vit, or a network of convolutions such as cnn or resnet9",
            )  # fmt: skip
        self._of_model = tuple(found)  # the model's own: in a tuple it is no part of the objective
        super().bind(model, self._seen(batch))

    @torch.no_grad()
    def _seen(self, batch: Batch) -> Batch:
        """The spectrograms as `image`, without the sounds."""
        image = self._of_model[0](batch["audio"])
        return {**{name: values for name, values in batch.items() if name != "audio"}, "image": image}

    def augmented(self, batch: Batch, context: Context) -> Batch:
        changed = self.augment.columns(batch, context.for_rows(batch["row"]))
        return self._seen({**batch, "audio": changed.get("audio", batch["audio"])})
