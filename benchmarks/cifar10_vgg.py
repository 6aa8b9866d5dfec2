"""A tutorial's VGG on CIFAR-10 (18.4 million parameters, batch 64, SGD) beside the plain loop: seconds an
epoch, from 200 steps after 20 that do not count (about 12 minutes on 2 cores).

Ours is the stage `tutorial` of the recipe `cifar10-vgg`, started for its ten epochs, so that it chooses
precision and layout as it would, and stopped after those steps.
"""

import duel

ROWS = 50_000


def main():
    given = duel.arguments(__doc__, rounds=3)
    warm, steps = (2, 3) if given.quick else (20, 200)
    data, decoded = duel.data_set("cifar10")
    ours = {
        "recipe": duel.recipe("cifar10-vgg", ["tutorial"], data={"path": data}, result="tutorial"),
        "set": {"stages.tutorial.log_every": warm}, "stage": "tutorial", "warm_steps": warm, "steps": steps,
    }  # fmt: skip
    plain = {
        "data": decoded, "batch_size": 64, "epochs": 1, "warm_steps": warm, "steps": steps,
        "mean": [0.5] * 3, "std": [0.5] * 3, "optimizer": {"name": "sgd", "lr": 0.001, "momentum": 0.9},
        "network": {
            "name": "cnn", "channels": 3, "size": 32, "widths": [64, 64, 128, 128, 256], "hidden": [4096, 4096],
        },
    }  # fmt: skip
    found = duel.duel(
        [
            duel.System(duel.OURS, "ours.py", ours),
            duel.System("plain loop", "plain_images.py", plain, "torch"),
            duel.System("plain loop, 2 workers", "plain_images.py", {**plain, "workers": 2}, "torch"),
        ],
        given,
    )
    metric = f"seconds an epoch of {ROWS:,} images, extrapolated from {steps} steps"
    lines = duel.figures(found, lambda outcome: ROWS / duel.rate(outcome), higher_is_better=False)
    duel.told("cifar10_vgg", metric, given, *lines)


if __name__ == "__main__":
    main()
