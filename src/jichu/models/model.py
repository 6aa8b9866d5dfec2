"""A model: inputs made ready, a backbone, named heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .backbone import Backbone, Features
from .dropout import quicken
from .inputs import Inputs
from .series import LEVEL


class Model(nn.Module):
    """`forward(batch) -> {"features": Features, head: output, …}`."""

    def __init__(
        self, backbone: Backbone, heads: dict[str, nn.Module] | None = None, inputs: Inputs | None = None
    ):
        super().__init__()
        self.inputs = Inputs(channels=1) if inputs is None else inputs  # one of no parts is falsy
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads or {})
        quicken(self)

    def features(self, batch: dict[str, Tensor]) -> Features:
        """The backbone's features of a batch."""
        ready = self.inputs(batch)
        found = self.backbone(ready)
        return found._replace(level=ready[LEVEL]) if LEVEL in ready else found

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        features = self.features(batch)
        return {"features": features, **{name: head(features) for name, head in self.heads.items()}}
