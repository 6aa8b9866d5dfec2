"""ResNet-18 with the stem for small images, from scratch on 32×32 images: images a second beside the plain
loop in float32 and beside one in bfloat16 with channels last, and utilisation: the multiplications and
additions done a second, as counted by PyTorch, over those of the best matmul measured in the same round.
From 30 steps of 64 images after 5 that do not count (about 10 minutes on 2 cores).

Ours is started for 30 epochs, so that it chooses precision and layout as it would, and stopped after those
steps. No augmentation on either side.
"""

import statistics

import duel

LIMIT = "limit"
OPTIMIZER = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
NETWORK = {"name": "resnet18", "small": True}


def systems(quick, **settings):
    data, decoded = duel.data_set("cifar10")
    warm, steps, batch = (1, 1, 8) if quick else (5, 30, 64)
    ours = {
        "recipe": recipe(data, batch, warm, **settings),
        "stage": "finetune",
        "warm_steps": warm,
        "steps": steps,
    }
    plain = {
        "data": decoded, "batch_size": batch, "epochs": 1, "warm_steps": warm, "steps": steps,
        "mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26], "optimizer": OPTIMIZER, "network": NETWORK,
    }  # fmt: skip
    half = {**plain, "precision": "bfloat16", "channels_last": True}
    return [
        duel.System(duel.OURS, "ours.py", ours),
        duel.System("plain loop, float32", "plain_images.py", plain, "torch"),
        duel.System("plain loop, bfloat16, channels last", "plain_images.py", half, "torch"),
    ]


def recipe(data, batch, log_every, **settings):
    stage = {
        "stage": "finetune", "backbone": {"name": "resnet18", "stem": "small"}, "budget": "30 epochs",
        "batch_size": batch, "optimizer": {**OPTIMIZER, "nesterov": False}, "log_every": log_every, **settings,
    }  # fmt: skip
    return duel.write_recipe({"name": "resnet18-small", "data": {"path": data}, "stages": [stage]})


def main():
    given = duel.arguments(__doc__, rounds=3)
    measure = {"network": NETWORK, "size": 32, "seconds": 0.2 if given.quick else 3}
    limit = duel.System(LIMIT, "limit.py", measure, "torch")
    found = duel.duel([*systems(given.quick), limit], given)
    limits = found.pop(LIMIT)
    lines, ratios, ranges = duel.figures(found)
    if "failed" not in limits[0]:
        lines += [utilisation(n, o, limits) for n, o in found.items() if "failed" not in o[0]]
    duel.told("resnet18_small", "images a second, 32×32", given, lines, ratios, ranges, limits=limits)


def utilisation(name, outcomes, limits):
    shares = [
        duel.rate(o) * limit["flops_per_image"] / limit["best"]
        for o, limit in zip(outcomes, limits, strict=True)
    ]
    return {
        "system": f"{name}: share of the best matmul",
        "value": statistics.median(shares), "low": min(shares), "high": max(shares),
    }  # fmt: skip


if __name__ == "__main__":
    main()
