"""Masked frames: stretches of a sound are not heard, and what was in them is to be told."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.augment import Augment
from jichu.data.config import AudioAugmentConfig, AugmentConfig, SpectrogramConfig
from jichu.data.spectrum import filters, log_mel, transform_size
from jichu.models.spectrogram import Waves
from jichu.models.transformers_audio import UNHEARD

from .base import PRETRAINING, Batch, Context, Objective

_TINY = 1e-3


class MaskedFrames(Objective):
    """Stretches of `span` frames are hidden from a transformer that hears waves, as in wav2vec 2.0, until about
    `share` of them are, and the log mel energies of each hidden frame are told from what is around it (TERA: Liu et
    al., 2021, arXiv 2007.06028). The loss is the mean absolute error over hidden frames, of energies less their
    mean over their deviation in each sound."""

    task = PRETRAINING
    kinds = ("audio",)
    suits = AugmentConfig(audio=AudioAugmentConfig(shift=0.1, speed=0.1, gain=6))

    def __init__(
        self,
        augment: Augment,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        span: Annotated[int, Field(ge=1)] = 8,
        mels: Annotated[int, Field(ge=8, le=256)] = 40,
    ):
        super().__init__()
        self.augment, self.share, self.span, self.mels = augment, share, span, mels
        self.frames = 0
        self.decoder: nn.Module = nn.Identity()
        self.register_buffer("weights_of_bands", torch.empty(0), persistent=False)

    def bind(self, model: nn.Module, batch: Batch) -> None:
        hearing = next((module for module in model.modules() if isinstance(module, Waves)), None)
        if hearing is None:
            raise UsageError(
                "masked-frames hides stretches of waves, and this backbone hears none", where="backbone",
                expected="wav2vec2 or another that does; for spectrograms objective: masked-spectrograms",
            )  # fmt: skip
        training = model.training
        with torch.no_grad():
            sequence = model.eval()(batch)["features"].sequence
        model.train(training)
        self.frames = sequence.shape[1]
        if self.frames < 2:
            raise UsageError(
                "a sound of one frame, of which nothing can be hidden",
                where="data.seconds",
                expected="longer sounds",
            )
        self.decoder = nn.Sequential(nn.LayerNorm(sequence.shape[2]), nn.Linear(sequence.shape[2], self.mels))
        self.sound = hearing.sound
        self.look = SpectrogramConfig(mels=self.mels, hop=min(1.0, self.sound.seconds / self.frames))
        bins = transform_size(self.sound, self.look) // 2 + 1
        self.weights_of_bands = filters(self.mels, bins, self.sound.rate)
        self.to(batch["audio"].device)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        changed = self.augment.columns(batch, context.for_rows(batch["row"]))
        waves = changed.get("audio", batch["audio"])
        with torch.no_grad():
            energies = log_mel(waves, self.sound, self.look, self.weights_of_bands)[..., : self.frames]
            mean, std = energies.mean(2, keepdim=True), energies.std(2, keepdim=True).clamp(min=_TINY)
            truth = ((energies - mean) / std).transpose(1, 2)
        return {**batch, "audio": waves, "truth": truth, UNHEARD: self._spans(batch, context)}

    def _spans(self, batch: Batch, context: Context) -> Tensor:
        """[B, T]: so many stretches, wherever they begin, that about the share is hidden, and one at least; never all."""
        span = min(self.span, self.frames - 1)
        places = self.frames - span + 1
        count = max(1, round(math.log(1 - self.share) / math.log(1 - span / self.frames)))
        first = context.uniform(batch["row"], places, "spans").argsort(1)[:, : min(count, places)]
        starts = torch.zeros(len(first), self.frames).scatter_(1, first.cpu(), 1.0)
        hidden = F.max_pool1d(F.pad(starts, (span - 1, 0))[:, None], span, 1)[:, 0] > 0
        hidden[:, 0] &= ~hidden.all(1)
        return hidden.to(batch["audio"].device)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """frames [B, T, mels] as they are told."""
        return {"frames": self.decoder(model(batch)["features"].sequence)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        error = (outputs["frames"].float() - batch["truth"]).abs().mean(2)
        return (error * batch[UNHEARD]).sum(1) / batch[UNHEARD].sum(1).clamp(min=1)
