"""The two views of SimCLR on whole batches by the library `kornia`, its modules composed as its documentation does.

Settings: data, batch_size, warm_steps, steps.
"""

import json
import sys

import kornia
import numpy as np
import torch
from kornia import augmentation as changes
from stopwatch import Stopwatch


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    images = np.load(f"{given['data']}/train-images.npy")
    size = images.shape[1]
    views = changes.AugmentationSequential(
        changes.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        changes.RandomHorizontalFlip(p=0.5),
        changes.ColorJitter(0.8, 0.8, 0.8, 0.2, p=1.0),
        changes.RandomGrayscale(p=0.2),
    )
    watch, going = Stopwatch(given["warm_steps"], given["steps"]), True
    while going:
        rows = np.random.choice(len(images), given["batch_size"], replace=False)
        batch = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 255
        torch.stack([views(batch), views(batch)], 1)
        going = watch.step(len(rows))
    watch.report(versions={"torch": torch.__version__, "kornia": kornia.__version__})


if __name__ == "__main__":
    main()
