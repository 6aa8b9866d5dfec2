"""A residual network of nine layers that learns CIFAR-10 in minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from .backbone import Backbone, Features
from .common import Width, he_init, refuse_below

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "celu": lambda: nn.CELU(0.3),
    "gelu": nn.GELU,
}  # 0.3: Page's


class Residual(nn.Module):
    """A branch beside the identity."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ResNet9(Backbone):
    """3×3 convolutions, each with batch normalisation and activation, of widths 1, 2, 4 and 8 times
    `base`, 2×2 max-pooling after the last three; at widths 2 and 8 a residual branch of two more; then
    the maximum over places. After D. Page, "How to train your ResNet" (2018), who made it for
    DAWNBench: 94 % on CIFAR-10 after 24 epochs."""

    def __init__(
        self,
        channels: int,
        size: int,
        base: Width = 64,
        activation: Literal["relu", "celu", "gelu"] = "celu",
    ):
        super().__init__()
        refuse_below(8, size, "resnet9", "resnet18 or cnn")

        def convolution(before: int, after: int) -> list[nn.Module]:
            layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
            return [layer, nn.BatchNorm2d(after), _ACTIVATIONS[activation]()]

        def stage(before: int, residual: bool) -> nn.Sequential:
            width = 2 * before
            layers = [*convolution(before, width), nn.MaxPool2d(2)]
            if residual:
                branch = nn.Sequential(*convolution(width, width), *convolution(width, width))
                layers.append(Residual(branch))
            return nn.Sequential(*layers)

        self.stem = nn.Sequential(*convolution(channels, base))
        self.layer1 = stage(base, residual=True)
        self.layer2 = stage(2 * base, residual=False)
        self.layer3 = stage(4 * base, residual=True)
        self.width = 8 * base
        he_init(self)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        maps = self.layer3(self.layer2(self.layer1(self.stem(batch["image"]))))
        return Features(maps.amax((2, 3)), maps=maps)
