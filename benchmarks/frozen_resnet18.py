"""A linear layer learnt on a frozen ResNet-18 (random weights) at 224×224, batch 128: seconds for 10 epochs
of 50,000 images, beside the plain float32 loop. Both sides are extrapolated (about 15 minutes on 2 cores).

Ours computes the features once: the whole stage is timed on two numbers of images, and the line through both
gives 50,000. What does not grow with the images counts once, all else in proportion. The plain loop's rate,
from a few steps, gives its ten epochs; it scales each image with Pillow, ours scales in the model.
"""

import duel
import pyarrow.parquet as pq

ROWS, EPOCHS = 50_000, 10


def some(data, rows):
    """The first images as a file; they come in no order."""
    file = duel.CACHE / "cifar10-first" / f"{rows}.parquet"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(f"{data}/train.parquet").slice(0, rows), file)
    return str(file)


def ours(data, rows, batch):
    stage = {
        "stage": "finetune", "backbone": {"name": "resnet18", "stem": "large"}, "pixels": {"size": 224},
        "adapt": "head", "budget": f"{EPOCHS} epochs", "batch_size": batch, "log_every": 1,
        "optimizer": {"name": "adam", "lr": 1e-3},
    }  # fmt: skip
    tree = {
        "name": "frozen",
        "data": {"path": some(data, rows), "split": {"test": 0.1}},
        "stages": [stage, {"stage": "audit"}],
    }
    given = {"recipe": duel.write_recipe(tree), "stage": "finetune"}
    return duel.System(f"{duel.OURS}, {rows} images", "ours.py", given)


def line(small, large, sizes):
    """An outcome for all rows from those of two sizes; embedding test rows counts like training rows."""
    each = (large["stage_seconds"] - small["stage_seconds"]) / (sizes[1] - sizes[0])
    at_once = max(0.0, small["stage_seconds"] - each * sizes[0])
    return {**large, "whole": at_once + each * ROWS, "load": max(small["load"], large["load"])}


def main():
    given = duel.arguments(__doc__, rounds=3)
    sizes, batch, warm, steps = ((40, 80), 8, 1, 1) if given.quick else ((512, 2560), 128, 1, 6)
    data, decoded = duel.data_set("cifar10")
    plain = {
        "data": decoded, "batch_size": batch, "epochs": 1, "warm_steps": warm, "steps": steps, "resize": 224,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "frozen": True,
        "optimizer": {"name": "adam", "lr": 1e-3}, "network": {"name": "resnet18", "small": False},
    }  # fmt: skip
    half = {**plain, "precision": "bfloat16", "channels_last": True}
    mine = [ours(data, rows, batch) for rows in sizes]
    found = duel.duel(
        [
            *mine,
            duel.System("plain loop, float32", "plain_images.py", plain, "torch"),
            duel.System("plain loop, bfloat16, channels last", "plain_images.py", half, "torch"),
        ],
        given,
    )
    small, large = (found.pop(system.name) for system in mine)
    failed = [outcomes for outcomes in (small, large) if "failed" in outcomes[0]]
    found = {
        duel.OURS: failed[0] if failed else [line(*o, sizes) for o in zip(small, large, strict=True)],
        **found,
    }
    seconds = duel.figures(
        found, lambda o: o.get("whole") or EPOCHS * ROWS / duel.rate(o), higher_is_better=False
    )
    metric = f"seconds for {EPOCHS} epochs of {ROWS:,} images, extrapolated from {sizes[1]} images and {steps} steps"
    duel.told("frozen_resnet18", metric, given, *seconds)


if __name__ == "__main__":
    main()
