"""VGG (Simonyan and Zisserman, 2014, arXiv 1409.1556), with the state-dict names of torchvision's weights."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from .common import Classic, Rate, Width, he_init, refuse_below


class Vgg(Classic):
    """Five stages of 3×3 convolutions, 2×2 max-pooling after each, then two dense layers of `hidden`
    units with dropout after each. Images from 32 pixels.

    With `classifier: false` the features are the mean over places instead, which suits small images:
    the first dense layer alone has 103 million weights. `base` is the width of the first stage.
    """

    places = 7
    depths: ClassVar[tuple[int, ...]]
    norm: ClassVar[bool] = False

    def __init__(
        self,
        channels: int,
        size: int,
        base: Width = 64,
        hidden: Width = 4096,
        classifier: bool = True,
        dropout: Rate = 0.5,
    ):
        super().__init__()
        refuse_below(32, size, "vgg", "resnet18 or cnn")
        layers: list[nn.Module] = []
        before = channels
        for depth, factor in zip(self.depths, (1, 2, 4, 8, 8), strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(before, factor * base, 3, padding=1))
                layers += [nn.BatchNorm2d(factor * base), nn.ReLU()] if self.norm else [nn.ReLU()]
                before = factor * base
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.width = before
        self.classifier = None
        if classifier:
            self.classifier = nn.Sequential(
                nn.Linear(before * self.places**2, hidden), nn.ReLU(), nn.Dropout(dropout),
                nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            )  # fmt: skip
            self.width = hidden
        he_init(self, "fan_in")


class Vgg11(Vgg):
    """Configuration A of the paper."""

    depths = (1, 1, 2, 2, 2)


class Vgg13(Vgg):
    """Configuration B of the paper."""

    depths = (2, 2, 2, 2, 2)


class Vgg16(Vgg):
    """Configuration D of the paper."""

    depths = (2, 2, 3, 3, 3)


class Vgg19(Vgg):
    """Configuration E of the paper."""

    depths = (2, 2, 4, 4, 4)


class Vgg11Bn(Vgg11):
    """With batch normalisation after each convolution."""

    norm = True


class Vgg13Bn(Vgg13):
    """With batch normalisation after each convolution."""

    norm = True


class Vgg16Bn(Vgg16):
    """With batch normalisation after each convolution."""

    norm = True


class Vgg19Bn(Vgg19):
    """With batch normalisation after each convolution."""

    norm = True
