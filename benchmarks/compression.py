"""What is left of a ResNet-9 on CIFAR-10 that is made smaller: accuracy on the test images (with its 95% interval), parameters,
bytes, MACs and rows a second of each step at several amounts, all trained again for as long (some hours on two cores; with
--steps 4 --rows 20 --base 4 it is seen to run)."""

import argparse
import os
import tempfile

import duel
import labels
import results
import torch

import jichu
from jichu.models import folder
from jichu.models.cost import cost

BASE, STEPS, AGAIN = 32, 3000, 1500  # width, and steps of the first and of each further training
BATCH = 128  # rows at once, for the speed
WAYS = {
    "structured": [0.3, 0.5, 0.7, 0.85],
    "low-rank": [0.3, 0.5, 0.7],
    "magnitude": [0.5, 0.8, 0.9, 0.95],
    "movement": [0.5, 0.8],
}


def smaller():
    """The steps of each stage, by its name."""
    found = {
        f"{name}-{a:g}": [{"name": name, "amount": a}] for name, amounts in WAYS.items() for a in amounts
    }
    half = {"name": "structured", "amount": 0.5}
    return found | {
        "taylor-0.5": [{**half, "by": "taylor"}],
        "global-0.5": [{**half, "scope": "global"}],
        "taught-0.5": [half, "distillation"],
        "cut-and-zeros": [half, {"name": "magnitude", "amount": 0.8}],
        "8-bits": ["quantization-aware"],
        "4-bits": [{"name": "quantization-aware", "bits": 4}],
    }


def stages(steps, again, base):
    network = {"name": "resnet9", "base": base}
    whole = labels.stage("whole", backbone=network, augment="auto", batch_size=64, budget=f"{steps} steps")
    like = {
        "stage": "compress",
        "from": "whole",
        "augment": "auto",
        "batch_size": 64,
        "budget": f"{again} steps",
    }
    like["optimizer"] = {"lr": 2e-3}
    return [
        whole,
        *({**like, "name": name, "steps": how} for name, how in smaller().items()),
        {"stage": "audit"},
    ]


def speed(run, name):
    """Rows a second, of batches."""
    model, config = folder.load(run.folder.stage_model(name))
    images = torch.randint(0, 256, (BATCH, 3, config.image.size, config.image.size), dtype=torch.uint8)
    batch = {"image": images, "row": torch.arange(BATCH)}
    found = cost(model, lambda n: {key: value[:n] for key, value in batch.items()}, (BATCH,), 2.0)
    return found["throughput"][-1]["rows_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--base", type=int, default=BASE)
    parser.add_argument("--rows", type=int, help="learn from so many rows of each class")
    options = parser.parse_args()
    os.chdir(tempfile.mkdtemp())
    data = {"path": str(duel.DATA / "cifar10")} | ({"labels_per_class": options.rows} if options.rows else {})
    again = max(1, options.steps * AGAIN // STEPS)
    made, found = labels.run("compression", data, stages(options.steps, again, options.base))
    run, rows = jichu.open(made.path), []
    for about in found["stages"][:-1]:
        name, told = about["name"], about["metrics"]
        size = told["size"]["after"] if "size" in told else found["stages"][1]["metrics"]["size"]["before"]
        cut = told.get("score", {}).get("cut")
        rows.append(
            {
                "system": name,
                **found["headline"][name],
                "cut": cut,
                **size,
                "rows_per_second": speed(run, name),
                "seconds": about["seconds"],
            }
        )
    first = rows[0]
    ratio = {row["system"]: first["macs"] / row["macs"] for row in rows[1:]}
    results.write("compression", "accuracy on the test images of CIFAR-10", rows, times_fewer_macs=ratio)


if __name__ == "__main__":
    main()
