"""AlexNet (Krizhevsky et al., 2012), in the form of one tower of Krizhevsky, 2014 (arXiv 1404.5997), with
the state-dict names of torchvision's weights."""

from __future__ import annotations

from torch import nn

from .common import Classic, Rate, Stem, Width, he_init, is_small, refuse_below


class AlexNet(Classic):
    """Five convolutions, then two dense layers of `hidden` units with dropout before each.

    With `classifier: false` the features are the mean over places instead. `base` is the width of the
    first convolution, which is 11×11 with stride 4 in the `large` stem (images from 63 pixels) and 3×3
    with stride 1 in the `small` one (from 15).
    """

    places = 6

    def __init__(
        self,
        channels: int,
        size: int,
        base: Width = 64,
        hidden: Width = 4096,
        classifier: bool = True,
        dropout: Rate = 0.5,
        stem: Stem = "auto",
    ):
        super().__init__()
        small = is_small(stem, size)
        refuse_below(
            15 if small else 63, size, "alexnet", "resnet18" if small else "its small stem, or resnet18"
        )
        first = (
            nn.Conv2d(channels, base, 3, padding=1)
            if small
            else nn.Conv2d(channels, base, 11, stride=4, padding=2)
        )
        self.features = nn.Sequential(
            first, nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(base, 3 * base, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(3 * base, 6 * base, 3, padding=1), nn.ReLU(),
            nn.Conv2d(6 * base, 4 * base, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * base, 4 * base, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.width = 4 * base
        self.classifier = None
        if classifier:
            self.classifier = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(4 * base * self.places**2, hidden), nn.ReLU(),
                nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            )  # fmt: skip
            self.width = hidden
        he_init(self, "fan_in")
