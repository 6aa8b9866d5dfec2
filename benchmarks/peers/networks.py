"""The networks of the duels in plain PyTorch, as their users write them."""

import torch
from torch import nn
from torch.nn import functional as F


def cnn(channels, size, widths, hidden, classes=10):
    """3×3 convolutions with ReLU and 2×2 pooling, then dense layers."""
    layers, before = [], channels
    for width in widths:
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        before = width
    layers.append(nn.Flatten())
    before *= (size // 2 ** len(widths)) ** 2
    for width in hidden:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, classes))


class Block(nn.Module):
    """The basic block of a residual network."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """With the stem for small images (3×3) or the large one (7×7, stride 2, pooled)."""

    def __init__(self, channels=3, classes=10, small=True):
        super().__init__()
        stem = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        pool = nn.Identity()
        if not small:
            stem, pool = nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(), pool)
        blocks, before = [], 64
        for after, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
            blocks += [Block(before, after, stride), Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class TableMlp(nn.Module):
    """Numbers with a flag for each missing one, a vector for each category, dense layers with ReLU."""

    def __init__(self, numbers, sizes, vectors, widths, classes):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, v) for n, v in zip(sizes, vectors, strict=True))
        layers, before = [], 2 * numbers + sum(vectors)
        for width in widths:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, classes))

    def forward(self, numbers, categories):
        missing = numbers.isnan().float()
        vectors = [embed(categories[:, i]) for i, embed in enumerate(self.embeddings)]
        return self.layers(torch.cat([numbers.nan_to_num(0.0), missing, *vectors], 1))


def count(model):
    return sum(p.numel() for p in model.parameters())
