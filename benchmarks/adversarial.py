"""Adversarial training on MNIST (epsilon 0.3, linf) beside a network without: what stands after 40 steps of projected
gradients on 1,000 test images, and after the strongest attack. Half an hour on two cores.

    python benchmarks/adversarial.py
"""

import argparse
import os
import tempfile

import duel
import labels
import results

# where a stroke is matters to what stands an attack: the mean over places (readout: mean) ends 16 points lower
NETWORK = {
    "backbone": {"name": "cnn", "widths": [16, 32], "norm": "none", "readout": "flatten", "hidden": 128}
}
ATTACKED = {"epsilon": 0.3, "steps": 7, "ramp": 0.3}


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", default="4000 steps")
    options.add_argument("--seeds", type=int, default=1)
    options = options.parse_args()
    os.chdir(tempfile.mkdtemp())
    fitted = {
        **NETWORK,
        "batch_size": 128,
        "budget": options.steps,
        "optimizer": {"name": "adamw", "lr": 0.002},
    }
    stages = [
        labels.stage("plain", **{**fitted, "budget": "1000 steps"}),
        labels.stage("adversarial", **fitted, wrap=[{"name": "adversarial", **ATTACKED}]),
        labels.stage("trades", **fitted, wrap=[{"name": "trades", "beta": 3, **ATTACKED}]),
        {
            "stage": "audit",
            "metrics": ["accuracy"],
            "parts": [{"name": "robustness", "epsilon": 0.3, "rows": 1000}],
        },
    ]
    rows = []
    for seed in range(options.seeds):
        folder, summary = labels.run("mnist", {"path": str(duel.DATA / "mnist")}, stages, seed)
        found = labels.read_json(folder.audit)["parts"]["robustness"]
        seconds = {s["name"]: s["seconds"] for s in summary["stages"]}
        for stage, model in found["models"].items():
            told = {
                name: model[name]
                for name in ("clean", "one_step", "many_steps", "strongest", "fell", "hidden")
            }
            rows.append({"system": stage, "seed": seed, "seconds": seconds[stage], **told})
        results.write("adversarial", "share of 1,000 test images of MNIST that are still right", rows)


if __name__ == "__main__":
    main()
