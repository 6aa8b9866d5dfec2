"""What the attacks are tried on, the same for all: a small network that is fitted already, and images that it tells."""

import json
import sys

import numpy as np
import torch
from stopwatch import Stopwatch
from torch import nn


def network():
    """Logits [N, 10] of images [N, 1, 28, 28] from 0 to 1."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip


def images(folder, split, rows=None):
    """Images [N, 1, 28, 28] from 0 to 1, and their classes [N]."""
    x, y = (np.load(f"{folder}/{split}-{what}.npy", mmap_mode="r")[:rows] for what in ("images", "labels"))
    return torch.tensor(x)[:, None].float() / 255, torch.tensor(y).long()


def attacked(make, **versions):
    """Attack batch after batch by what `make(network, settings)` gives, (images, classes) -> images, and report the time
    and the accuracy that is left. The first batch is not timed.

    Settings: data, weights, attack, epsilon, steps, queries, batch_size, batches."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    np.random.seed(0)
    net, size, batches = network(), given["batch_size"], given["batches"]
    net.load_state_dict({name: torch.tensor(v) for name, v in np.load(given["weights"]).items()})
    net.eval().requires_grad_(False)
    attack = make(net, given)
    x, y = images(given["data"], "test", size * (1 + batches))
    watch, changed = Stopwatch(1, batches), []
    for some, truth in zip(x.split(size), y.split(size), strict=True):
        changed.append(attack(some, truth))
        watch.step(size)
    after = torch.cat(changed)
    with torch.no_grad():
        right = net(after).argmax(1) == y
    farthest = float((after - x).abs().max())
    assert farthest <= given["epsilon"] + 1e-5, f"a change of {farthest}"
    watch.report(accuracy=float(right.double().mean()), versions={"torch": torch.__version__, **versions})
