"""Heads: features in, one task's output out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from .backbone import Features


class Linear(nn.Module):
    """Logits [B, outputs] from pooled features; dropout before."""

    def __init__(self, width: int, outputs: int, dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs)

    def forward(self, features: Features) -> Tensor:
        return self.linear(self.dropout(features.pooled))
