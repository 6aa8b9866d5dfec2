"""What a backbone is, and how any module can serve as one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from jichu.core.errors import UsageError


class Features(NamedTuple):
    """pooled [B, D]; where the network has them, sequence [B, T, D], maps [B, D, H, W], mask [B, T] of the
    places of the sequence that hold something, predicted [B, T], those of which the batch asks for what
    stands there, columns [B, F, D'] of series that are looked at each by itself; and the level [B, C, 2] of
    what is forecast, its mean and deviation, which was taken off before."""

    pooled: Tensor
    sequence: Tensor | None = None
    maps: Tensor | None = None
    mask: Tensor | None = None
    predicted: Tensor | None = None
    columns: Tensor | None = None
    level: Tensor | None = None


class Backbone(nn.Module):
    """`forward(batch) -> Features`. `width` is D of the pooled features."""

    width: int

    def forward(self, batch: dict[str, Tensor]) -> Features:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def estimate(self, tensors: dict[str, Tensor], rows: Tensor) -> None:
        """Set what is taken from the (training) rows of a data set; most networks have nothing of the kind."""


class ModuleBackbone(Backbone):
    """Any module from images [B, C, H, W] to [B, D] or [B, D, H, W], taken as it is.

    Its parameters keep their names; a trial image tells its width.
    """

    def __init__(self, module: nn.Module, channels: int, size: int):
        super().__init__()
        self.module = module
        training = module.training
        module.eval()
        with torch.no_grad():
            parameter = next(module.parameters(), torch.empty(0))
            image = torch.zeros(2, channels, size, size, device=parameter.device)
            try:
                self.width = self({"image": image}).pooled.shape[1]
            except RuntimeError as error:
                raise UsageError(
                    f"{type(module).__name__} cannot take images [2, {channels}, {size}, {size}]: {error}",
                    expected="a module from images [B, C, H, W] to features [B, D] or [B, D, H, W]",
                ) from None
        module.train(training)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        out = self.module(batch["image"])
        if isinstance(out, Features):
            return out
        if isinstance(out, Tensor) and out.ndim == 4:
            return Features(out.mean((2, 3)), maps=out)
        if isinstance(out, Tensor) and out.ndim == 2:
            return Features(out)
        found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UsageError(
            f"{type(self.module).__name__} gave {found}", expected="features [B, D] or [B, D, H, W]"
        )
