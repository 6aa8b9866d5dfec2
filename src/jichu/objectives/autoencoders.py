"""Autoencoders: the image is to be told from its features alone."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.augment import Augment, to_float
from jichu.data.augment.draws import normal
from jichu.data.config import AugmentConfig

from .base import PRETRAINING, Batch, Context, Objective, row_weight
from .views import pooled_width

_SMALLEST = 4  # pixels a side that a decoder begins with, at most twice as many


def decoder(width: int, channels: int, side: int, hidden: int) -> nn.Module:
    """From vectors [B, width] to logits of pixels [B, C, side, side], doubling from a few pixels and cut to size."""
    start, doublings = side, 0
    while start >= 2 * _SMALLEST:
        start, doublings = -(-start // 2), doublings + 1
    layers: list[nn.Module] = [nn.Linear(width, hidden * start**2), nn.Unflatten(1, (hidden, start, start))]
    for _ in range(doublings):
        after = max(16, hidden // 16 * 8)  # for the groups to divide
        layers += [
            nn.Upsample(scale_factor=2),
            nn.Conv2d(hidden, after, 3, padding=1),
            nn.GroupNorm(8, after),
            nn.ReLU(),
        ]
        hidden = after
    return nn.Sequential(*layers, nn.Conv2d(hidden, channels, 3, padding=1), Cut(side))


class Cut(nn.Module):
    """The first pixels of images [B, C, H, W]."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, : self.side, : self.side]


def _shape(images: Tensor) -> tuple[int, int]:
    """Channels, and pixels a side. UsageError where images are not square."""
    _, channels, height, width = images.shape
    if height != width:
        raise UsageError(
            f"images of {height} × {width} pixels",
            where="objective",
            expected="square images: give data.size",
        )
    return channels, height


class Denoising(Objective):
    """The image as it was, told from the features of what augmentation has made of it (Vincent et al., 2008): as
    noise, blur and erased parts do not move pixels, they suit it. The loss is the mean squared error."""

    task = PRETRAINING
    kinds = ("image",)
    suits = AugmentConfig(noise=0.2, erase=0.5)

    def __init__(self, augment: Augment, hidden: Annotated[int, Field(ge=16, multiple_of=8)] = 128):
        super().__init__()
        self.augment, self.hidden = augment, hidden
        self.decoder: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        channels, side = _shape(batch["image"])
        self.decoder = decoder(pooled_width(model, batch), channels, side, self.hidden).to(
            batch["row"].device
        )

    def prepare(self, batch: Batch, context: Context) -> Batch:
        noisy = self.augment(batch["image"], context.for_rows(batch["row"]))
        return {**batch, "image": noisy, "truth": to_float(batch["image"])}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """images [B, C, H, W] as they are told, 0 to 1."""
        return {"images": self.decoder(model(batch)["features"].pooled).float().sigmoid()}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        return (outputs["images"] - batch["truth"]).square().flatten(1).mean(1)


class Variational(Objective):
    """Variational autoencoder (Kingma and Welling, 2013, arXiv 1312.6114): features give the mean and the deviation
    of `latent` normal numbers, and a draw of them the image, each pixel being the probability of a dot. The loss is
    the negative evidence lower bound in nats a pixel; `beta` multiplies the divergence from a standard normal
    (Higgins et al., 2017)."""

    task = PRETRAINING
    kinds = ("image",)
    suits = AugmentConfig()

    def __init__(
        self,
        augment: Augment,
        latent: Annotated[int, Field(ge=1)] = 64,
        beta: Annotated[float, Field(ge=0)] = 1.0,
        hidden: Annotated[int, Field(ge=16, multiple_of=8)] = 128,
    ):
        super().__init__()
        self.augment, self.latent, self.beta, self.hidden = augment, latent, beta, hidden
        self.enter: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        channels, side = _shape(batch["image"])
        self.enter = nn.Linear(pooled_width(model, batch), 2 * self.latent)
        self.decoder = decoder(self.latent, channels, side, self.hidden)
        self.to(batch["row"].device)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        image = self.augment(batch["image"], context.for_rows(batch["row"]))
        blank = torch.empty(len(image), self.latent, device=image.device)
        return {**batch, "image": image, "noise": normal(context.for_rows(batch["row"], "latent."), blank)}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {name: row_weight(batch) for name in ("reconstruction", "divergence")}

    def scales(self) -> dict[str, float]:
        return {"divergence": self.beta}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Logits of pixels [B, C, H, W], and mean and log-variance [B, latent] of what they are drawn from."""
        mean, log_variance = self.enter(model(batch)["features"].pooled).float().chunk(2, dim=1)
        drawn = mean + (log_variance / 2).exp() * batch["noise"]
        return {"logits": self.decoder(drawn), "mean": mean, "log_variance": log_variance}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        entropy = F.binary_cross_entropy_with_logits(
            outputs["logits"].float(), batch["image"], reduction="none"
        )
        return {
            "reconstruction": entropy.flatten(1).mean(1),
            "divergence": divergence(outputs["mean"], outputs["log_variance"]) / batch["image"][0].numel(),
        }


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence [B] of independent normal numbers [B, L] from standard normal ones."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
