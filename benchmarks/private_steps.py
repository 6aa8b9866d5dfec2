"""Differentially private training of a small CNN on MNIST (two convolutions, batches of 512 drawn by chance, Adam) beside
Opacus' own loop with its PrivacyEngine: images a second over 60 steps after 5 (4 minutes)."""

import duel

NETWORK = {"channels": 1, "size": 28, "widths": [32, 64], "hidden": [64]}
BATCH, WARM = 512, 5


def systems(quick):
    data, decoded = duel.data_set("mnist")
    steps = 5 if quick else 60
    stage = {
        "stage": "finetune", "name": "private", "batch_size": BATCH, "budget": f"{WARM + steps} steps",
        "backbone": {"name": "cnn", "widths": NETWORK["widths"], "norm": "none", "readout": "flatten", "hidden": 64},
        "optimizer": {"name": "adam", "lr": 0.001}, "privacy": {"epsilon": 3, "clip": 1.0}, "schedule": "constant",
        "log_every": 5,
    }  # fmt: skip
    recipe = duel.write_recipe({"name": "duel", "data": {"path": data}, "stages": [stage]})
    given = {
        "data": decoded, "network": NETWORK, "mean": 0.1307, "std": 0.3081, "batch_size": BATCH, "lr": 1e-3, "noise": 1.0,
        "clip": 1.0, "warm_steps": WARM, "steps": steps,
    }  # fmt: skip
    return [
        duel.System(duel.OURS, "ours.py", {"recipe": recipe, "stage": "private", "warm_steps": WARM}),
        duel.System("Opacus, TensorDataset", "opacus_images.py", {**given, "tensors": True}, "opacus"),
        duel.System("Opacus", "opacus_images.py", given, "opacus"),
    ]


def main():
    given = duel.arguments(__doc__, rounds=3)
    found = duel.duel(systems(given.quick), given)
    duel.told("private_steps", "images a second, batch 512, two convolutions", given, *duel.figures(found))


if __name__ == "__main__":
    main()
