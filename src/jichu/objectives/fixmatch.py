"""FixMatch (Sohn et al., 2020, arXiv 2001.07685): a weak view gives the label, a strong one learns it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jichu.data.augment import Augment, to_float
from jichu.data.config import AudioAugmentConfig, AugmentConfig, RandAugmentConfig, TableAugmentConfig

from .base import Batch, Context, Objective
from .unlabelled import Consistency, Ratio, Share, Weight, confident_loss, mask_rate

# the paper draws magnitudes at random, of which 5 is the mean
STRONG = AugmentConfig(
    policy=RandAugmentConfig(magnitude=5), erase=0.5, table=TableAugmentConfig(swap=0.3, mask=0.1),
    audio=AudioAugmentConfig(speed=0.1, noise=0.2, times=2, bands=2),
)  # fmt: skip


class FixMatch(Consistency):
    """Cross-entropy of the strong view of the rows without label with the likeliest class of their weak view, where that
    is as likely as the threshold.

    Weak is what the stage does to its rows; `strong` comes on top. What the paper has not: of tables cells are swapped and
    masked, of sounds stretches are hidden. `spread` [F] is the deviation of the number columns (see `TableAugment`).
    """

    name = "fixmatch"
    kinds = ("image", "audio", "table")

    def __init__(
        self,
        inner: Objective,
        threshold: Share = 0.95,
        ratio: Ratio = 7,
        weight: Weight = 1.0,
        strong: AugmentConfig = STRONG,
        spread: Tensor | None = None,
    ):
        super().__init__(inner, ratio, weight, ramp=0.0)
        self.threshold, self.strong = threshold, Augment(strong, spread)

    def student_view(self, batch: Batch, context: Context) -> Batch:
        strong = self.strong.columns(batch, context.for_rows(batch["row"], f"{self.name}."))
        return {**batch, **{n: self._where_unknown(batch, x, batch.get(n)) for n, x in strong.items()}}

    def _where_unknown(self, batch: Batch, changed: Tensor, plain: Tensor | None) -> Tensor:
        if plain is None or plain.shape != changed.shape:  # masks, which hide nothing where they are zero
            there = changed[:, :0] if plain is None else plain
            plain = torch.cat([there, torch.zeros_like(changed[:, there.shape[1] :])], 1)
        unknown = self.unknown(batch).view(-1, *[1] * (plain.ndim - 1))
        return torch.where(unknown, changed, to_float(plain))

    def unsupervised_loss(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        return confident_loss(outputs[self.target].float(), self.taught(outputs), self.threshold)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Also the share of the rows without label that are learnt from."""
        used = mask_rate(self.taught(outputs), self.threshold, self.asked(batch))
        return {**super().diagnose(outputs, batch), **used}
