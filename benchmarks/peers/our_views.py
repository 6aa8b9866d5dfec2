"""The two views of an objective as a stage of ours makes them.

Settings: data, augment, batch_size, warm_steps, steps.
"""

import json
import sys

import numpy as np
import torch
from stopwatch import Stopwatch

import jichu
from jichu.data.augment import Augment
from jichu.data.config import AugmentConfig
from jichu.objectives.base import Context
from jichu.objectives.views import views


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    images = np.load(f"{given['data']}/train-images.npy")
    augment = Augment(AugmentConfig(**given["augment"]))
    watch, going, step = Stopwatch(given["warm_steps"], given["steps"]), True, 0
    while going:
        rows = np.random.choice(len(images), given["batch_size"], replace=False)
        batch = {"row": torch.from_numpy(rows), "image": torch.from_numpy(images[rows]).permute(0, 3, 1, 2)}
        views(augment, batch, Context(0, step), 2, "view")
        going, step = watch.step(len(rows)), step + 1
    watch.report(versions={"torch": torch.__version__, "jichu": jichu.__version__})


if __name__ == "__main__":
    main()
