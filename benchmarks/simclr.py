"""SimCLR with a ResNet-18 (stem for small images) on 32×32 images, batches of 256 and the same changes of images, beside
the example of the library `lightly` with two workers, in float32 and in bfloat16: images a second, of two views each,
from 8 steps after 2 that do not count (15 minutes a round on 2 cores).

The peer runs on the newest torch that its torchvision needs. Ours is started for 30 epochs, so that it chooses precision
and layout as it would, and stopped after those steps.
"""

import duel

VIEWS = {
    "flip": True,
    "crop": 0.08,
    "colour": 0.8,
    "hue": 0.2,
    "grey": 0.2,
}  # as SimCLRTransform, without blur


def systems(quick):
    data, decoded = duel.data_set("cifar10")
    warm, steps, batch = (1, 1, 16) if quick else (2, 8, 256)
    stage = {
        "stage": "pretrain", "backbone": {"name": "resnet18", "stem": "small"}, "budget": "30 epochs", "augment": VIEWS,
        "objective": {"name": "simclr", "hidden": 512}, "batch_size": batch, "log_every": warm,
        "optimizer": {"name": "sgd", "lr": 0.06},
    }  # fmt: skip
    recipe = duel.write_recipe({"name": "simclr", "data": {"path": data}, "stages": [stage]})
    ours = {"recipe": recipe, "stage": "pretrain", "warm_steps": warm, "steps": steps}
    example = {"data": decoded, "batch_size": batch, "workers": 2, "warm_steps": warm, "steps": steps}
    peers = [
        duel.System(
            f"lightly, {precision}", "lightly_simclr.py", {**example, "precision": precision}, "lightly"
        )
        for precision in ("float32", "bfloat16")
    ]
    return [duel.System(duel.OURS, "ours.py", ours), *peers]


def main():
    given = duel.arguments(__doc__, rounds=2)
    lines, ratios, ranges = duel.figures(duel.duel(systems(given.quick), given))
    duel.told("simclr", "images a second, 32×32, two views each", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()
