"""Heads: features in, one task's output out; and the heads of a model by themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from .backbone import Features
from .model import Model


class Linear(nn.Module):
    """Outputs [B, outputs] from pooled features; dropout before. A backbone may want no `bias`."""

    def __init__(
        self, width: int, outputs: int, dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0, bias: bool = True
    ):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, outputs, bias)

    def forward(self, features: Features) -> Tensor:
        pooled = features.pooled.to_dense() if features.pooled.is_sparse else features.pooled
        return self.linear(self.dropout(pooled))


class HeadsAlone(nn.Module):
    """A model whose backbone has done its work: the batch holds its `features` [B, D]. The heads are the
    model's own, under their own names."""

    def __init__(self, model: Model):
        super().__init__()
        self.heads = model.heads

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        features = Features(batch["features"])
        return {"features": features, **{name: head(features) for name, head in self.heads.items()}}
