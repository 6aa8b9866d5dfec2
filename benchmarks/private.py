"""Differentially private training on MNIST (epsilon 3, delta 1e-5) beside the same network without: accuracy on the test
images, and how well an attacker tells rows that were trained on. A quarter of an hour a seed on two cores.

    python benchmarks/private.py --seeds 3
"""

import argparse
import os
import tempfile

import duel
import labels
import results

NETWORK = {
    "backbone": {"name": "cnn", "widths": [16, 32], "norm": "group", "readout": "flatten", "hidden": 32}
}
PRIVATE = {
    "privacy": {"epsilon": 3, "delta": 1e-5, "clip": 0.5},
    "batch_size": 2048,
    "budget": "1200 steps",
    "optimizer": {"name": "adam", "lr": 0.002},
    "schedule": "linear",
}


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=3)
    options = options.parse_args()
    os.chdir(tempfile.mkdtemp())
    stages = [
        labels.stage("plain", **NETWORK, batch_size=128, budget="4000 steps"),
        labels.stage("private", **NETWORK, **PRIVATE),
        {"stage": "audit", "metrics": ["accuracy"], "parts": ["membership"]},
    ]
    rows = []
    for seed in range(options.seeds):
        folder, summary = labels.run("mnist", {"path": str(duel.DATA / "mnist")}, stages, seed)
        audit = labels.read_json(folder.audit)
        found = audit["parts"]["membership"]
        for stage in summary["stages"]:
            if (name := stage["name"]) in found["models"]:
                rows.append({
                    "system": name, "seed": seed, "seconds": stage["seconds"],
                    "accuracy": audit["models"][name]["metrics"]["accuracy"],
                    "privacy": stage["metrics"].get("privacy"),
                    "members": found["members"], "strangers": found["strangers"], "attack": found["models"][name]["loss"],
                })  # fmt: skip
        results.write("private", "accuracy on 10,000 test images of MNIST; membership by the loss", rows)


if __name__ == "__main__":
    main()
