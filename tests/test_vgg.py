"""The tutorial's VGG as a recipe equals the tutorial's plain loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jichu.data.batches import Batches
from jichu.data.decode import Preprocess
from jichu.data.target import Target
from jichu.models.folder import ModelConfig
from jichu.objectives.supervised import Classification
from jichu.recipe.config import read_recipe
from jichu.train.fit import fit


def tutorial():
    """As it is written there."""
    layers, before = [], 3
    for width in (64, 64, 128, 128, 256):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(),
                         nn.Linear(4096, 10))  # fmt: skip


def test_the_faithful_recipe_has_the_losses_of_a_plain_loop():
    stage = next(s for s in read_recipe("cifar10-vgg").stages if s.name == "tutorial")
    torch.manual_seed(0)
    target = Target("label", "classification", tuple("0123456789"))
    config = ModelConfig(
        stage.backbone.model_dump(),
        Preprocess(32, 3, "crop"),
        None,
        {"label": {"name": "linear"}},
        {"label": target},
    )
    model = config.build()
    model.inputs.set_pixels(stage.pixels.mean, stage.pixels.std)
    plain = tutorial()
    ours = {**dict(model.backbone.named_parameters()), **dict(model.heads.named_parameters())}
    with torch.no_grad():
        for theirs, mine in zip(plain.parameters(), ours.values(), strict=True):
            theirs.copy_(mine)  # also says that both have the same parameters in the same order
    assert sum(p.numel() for p in plain.parameters()) == 18_430_282
    images = torch.randint(256, (96, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (96,))
    tensors = {"image": images, "label": labels}

    optimizer = torch.optim.SGD(plain.parameters(), lr=0.001, momentum=0.9)
    losses, order = [], Batches(tensors, batch_size=32, seed=3)
    for _ in range(5):
        batch = next(order)
        loss = F.cross_entropy(plain((batch["image"] / 255 - 0.5) / 0.5), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    settings = stage.model_copy(update={"budget": "5 steps", "log_every": 1})
    found = fit(model, Classification(), Batches(tensors, batch_size=32, seed=3), settings)
    assert [row["loss"] for row in found.history] == pytest.approx(losses, rel=1e-5)
