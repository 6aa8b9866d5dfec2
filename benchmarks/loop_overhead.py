"""What the loop costs beside a plain PyTorch loop with a DataLoader: the same small CNN on 28×28
images, batch 32, Adam, float32, in turns within one process; images a second."""

import time

import numpy as np
import results
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from jichu.core.progress import console
from jichu.data.batches import Batches
from jichu.models.cnn import Cnn
from jichu.models.heads import Linear
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.train.config import OptimizerConfig, TrainConfig
from jichu.train.fit import fit

IMAGES, BATCH, ROUNDS = 6_400, 32, 7


def network():
    torch.manual_seed(0)
    body = Cnn(1, 28, widths=[32], norm="none", readout="flatten", hidden=64)
    return Model(body, {"label": Linear(64, 10)})


def ours(tensors):
    config = TrainConfig(
        budget="1 epochs", batch_size=BATCH, precision="float32", schedule="constant", warmup=0.0,
        optimizer=OptimizerConfig(name="adam"),
    )  # fmt: skip
    return fit(network(), Classification(), Batches(tensors, batch_size=BATCH), config).seconds


def plain(tensors):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(TensorDataset(tensors["image"], tensors["label"]), BATCH, shuffle=True)
    started = time.monotonic()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model({"image": images})["label"], labels).backward()
        optimizer.step()
    return time.monotonic() - started


def main():
    console.quiet = True
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "image": torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=generator),
        "label": torch.randint(0, 10, (IMAGES,), generator=generator),
    }
    ours(tensors), plain(tensors)
    times = np.array([(ours(tensors), plain(tensors)) for _ in range(ROUNDS)])
    rates = IMAGES / times
    rows = [
        {"system": name, "value": np.median(r), "low": r.min(), "high": r.max()}
        for name, r in zip(("jichu fit", "plain loop with DataLoader"), rates.T, strict=True)
    ]
    ratio = float(np.median(rates[:, 0] / rates[:, 1]))
    results.write("loop_overhead", "images a second, median and range of 7 interleaved rounds", rows, {"plain loop with DataLoader": ratio})  # fmt: skip


if __name__ == "__main__":
    main()
