"""What a network a tenth the size learns from one that was fitted to all labels of CIFAR-10: its accuracy alone and
taught, by answers and by features too, seeds 0 to 2, and the share of the gap to the teacher that is closed (half an hour
on two cores)."""

import argparse
import os
import tempfile

import duel
import labels
import results

BIG, SMALL = 32, 10  # widths of a ResNet-9: 1.65 and 0.16 million parameters
SEEDS, STEPS = 3, "3000 steps"
TAUGHT = {"name": "distillation", "teacher": "teacher", "temperature": 4, "alpha": 0.9}


def stages():
    def fitted(name, base, **keys):
        network = {"name": "resnet9", "base": base}
        return labels.stage(name, backbone=network, augment="auto", batch_size=64, budget=STEPS, **keys)

    return [
        fitted("teacher", BIG), fitted("alone", SMALL), fitted("answers", SMALL, wrap=[TAUGHT]),
        fitted("features", SMALL, wrap=[{**TAUGHT, "features": "cosine"}]), {"stage": "audit"},
    ]  # fmt: skip


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.chdir(tempfile.mkdtemp())
    runs = []
    for seed in range(SEEDS):
        runs.append(
            labels.run(f"distillation-{seed}", {"path": str(duel.DATA / "cifar10")}, stages(), seed)[1]
        )
        rows = []
        for about in runs[0]["stages"][:-1]:
            name = about["name"]
            values = [found["headline"][name]["value"] for found in runs]
            spread = {"value": sum(values) / len(values), "low": min(values), "high": max(values)}
            told = {"parameters": about["metrics"]["parameters"], "seconds": about["seconds"]}
            rows.append({"system": name, **spread, "values": values, **told})
        teacher, alone = (
            next(r["value"] for r in rows if r["system"] == name) for name in ("teacher", "alone")
        )
        closed = {r["system"]: (r["value"] - alone) / (teacher - alone) for r in rows[2:]}
        told = f"accuracy on the test images of CIFAR-10, {len(runs)} seeds"
        results.write("distillation", told, rows, share_of_the_gap_closed=closed)


if __name__ == "__main__":
    main()
