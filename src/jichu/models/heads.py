"""Heads: features in, one task's output out."""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import Features


class Linear(nn.Linear):
    """Logits [B, outputs] from pooled features; dropout before."""

    def __init__(self, width: int, outputs: int, dropout: float = 0.0):
        super().__init__(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        return super().forward(self.dropout(features.pooled))
