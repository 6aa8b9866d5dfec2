"""Pseudo-labels (Lee, 2013): the network's own confident answers are taken for labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import Batch, Objective
from .unlabelled import Ratio, SemiSupervised, Share, Weight, confident_loss, mask_rate


class PseudoLabels(SemiSupervised):
    """Cross-entropy of the rows without label with their likeliest class, where it is as likely as the threshold."""

    name = "pseudo-labels"

    def __init__(
        self,
        inner: Objective,
        threshold: Share = 0.95,
        ratio: Ratio = 1,
        weight: Weight = 1.0,
        ramp: Share = 0.5,
    ):
        super().__init__(inner, ratio, weight, ramp)
        self.threshold = threshold

    def unsupervised_loss(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        logits = outputs[self.target].float()
        return confident_loss(logits, logits.detach(), self.threshold)

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Also the share of the rows without label that are learnt from."""
        used = mask_rate(outputs[self.target].float(), self.threshold, self.asked(batch))
        return {**super().diagnose(outputs, batch), **used}
