"""A small CNN on MNIST beside a plain PyTorch loop with a DataLoader and beside Keras.

`rate`: images a second at batch 32 with Adam, one convolution, no augmentation on either side, over one
epoch of which the first steps do not count (about 6 minutes on 2 cores). `seconds`: until 98.9% of the test
images are right, each epoch looked at, the look counted (about 20 minutes); ours with the recipe's own
settings, timed from the call of `jichu.run` on data that an earlier run has decoded, the peers from the
model on, with their data in memory. A system that does not get there counts with the time it took.
"""

import duel

TARGET = 0.989
EPOCHS = 15  # at most, of the peers
WARM = 125
RECIPES = {"mnist-cnn": {"widths": [32], "hidden": [64]}, "mnist-cnn-two": {"widths": [32, 64], "hidden": []}}


def peers(decoded, network, **settings):
    common = {"data": decoded, "batch_size": 32, **settings}
    plain = {"network": {"name": "cnn", "channels": 1, "size": 28, **network}, "mean": 0.1307, "std": 0.3081,
             "epochs": 1, **common}  # fmt: skip
    adam = {"optimizer": {"name": "adam", "lr": 1e-3}}

    def loop(name, **more):
        return duel.System(name, "plain_images.py", {**plain, **adam, **more}, "torch")

    def keras(backend):
        given = {"backend": backend, "network": network, "epochs": 1, **common, **adam}
        return duel.System(f"Keras on {backend}", "keras_images.py", given, f"keras-{backend}")

    return [
        loop("plain loop"),
        loop("plain loop, 2 workers", workers=2),
        loop("plain loop, TensorDataset", tensors=True),
        keras("tensorflow"),
        keras("torch"),
    ]


def systems(quick, **settings):
    """All on one convolution for one epoch, without augmentation."""
    data, decoded = duel.data_set("mnist")
    recipe = duel.recipe("mnist-cnn", ["cnn", "audit"], data={"path": data})
    equal = {
        "augment": {}, "budget": "300 steps" if quick else "1 epochs", "schedule": "constant", "warmup": 0.0,
        "log_every": WARM, **settings,
    }  # fmt: skip
    changes = {f"stages.cnn.{key}": value for key, value in equal.items()}
    ours = {"recipe": recipe, "set": changes, "stage": "cnn", "warm_steps": WARM}
    others = peers(decoded, RECIPES["mnist-cnn"], tested=True, warm_steps=WARM, steps=100 if quick else 1750)
    return [duel.System(duel.OURS, "ours.py", ours), *others]


def rate(given):
    found = duel.duel(systems(given.quick), given)
    metric = "images a second, batch 32, Adam, one convolution; `accuracy` after one epoch"
    duel.told("mnist_cnn", metric, given, *duel.figures(found))


def seconds(given, name, data, decoded):
    target = 0.5 if given.quick else TARGET
    recipe = duel.recipe(name, ["cnn"], data={"path": data, "split": {"test": 0.0}})
    settings = {"stages.cnn.log_every": 25, "stages.cnn.evaluate_every": 25} if given.quick else {}
    ours = duel.System(
        duel.OURS, "ours.py",
        {"recipe": recipe, "set": settings, "stage": "cnn", "target": ["validation_accuracy", target]},
    )  # fmt: skip
    few = {"epochs": 1, "rows": 1600} if given.quick else {"epochs": EPOCHS}
    others = [s for s in peers(decoded, RECIPES[name], target=target, **few) if "workers" not in s.name]
    if not given.quick:
        duel.duel([ours], given)  # decodes, which does not count
    found = duel.duel([ours, *others], given)
    missed = [s for s, outcomes in found.items() for o in outcomes if o.get("accuracy", target) < target]
    duel.told(
        f"{name.replace('-', '_')}_seconds",
        f"seconds to {target:.1%} of the test images, the recipe's own settings", given,
        *duel.figures(found, lambda outcome: outcome["taken"], higher_is_better=False),
        rounds_not_there={name: missed.count(name) for name in dict.fromkeys(missed)},
    )  # fmt: skip


def main():
    given = duel.arguments(__doc__, rounds=3, parts=["rate", *RECIPES])
    if "rate" in given.parts:
        rate(given)
    data, decoded = duel.data_set("mnist")
    for name in RECIPES:
        if name in given.parts:
            seconds(given, name, duel.test_as_validation(data), decoded)


if __name__ == "__main__":
    main()
