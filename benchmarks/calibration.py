"""How well calibrated a network is, before and after, on three sets; and whether conformal sets of 90% hold what they promise
when the held-out rows are split 100 times at random, one half to find the sets by and one to count. Half an hour.

    python benchmarks/calibration.py --sets census
"""

import labels
import numpy as np
import pyarrow.parquet as pq
import results

from jichu.auditing import table
from jichu.metrics import calibration

SETS = ["census", "pneumonia", "cifar10"]
LEVEL, SPLITS = 0.9, 100


def coverage(truth, scores, method):
    """Of each split, the share of the other half whose truth is in its set."""
    rng, found = np.random.default_rng(0), []
    for _ in range(SPLITS):
        one, two = np.array_split(rng.permutation(len(truth)), 2)
        inside = calibration.sets(truth[one], scores[one], LEVEL, method)(scores[two])
        found.append(float(inside[np.arange(len(two)), truth[two]].mean()))
    return found


def measure(name):
    made = labels.SETS[name]()
    fitted = next(s for s in made["stages"](1.0) if s["name"] == "scratch")
    fitted |= {"calibrate": False}  # which is what is measured
    audit = {"stage": "audit", "metrics": made["metrics"], "parts": [{"name": "calibration", "level": LEVEL}]}
    data = (
        made["data"] if name == "pneumonia" else {**made["data"], "split": {"validation": 0.1}}
    )  # which has some
    folder, _ = labels.run(f"calibration-{name}", data, [fitted, audit])
    part = labels.read_json(folder.audit)["parts"]["calibration"]
    found = part["models"]["scratch"]
    _, truth, every = table.scores(pq.read_table(folder.path / "predictions.parquet"), "scratch")
    kept = {
        "validation_rows": part["validation_rows"],
        "rows": len(truth),
        "temperature": found["temperature"],
    }
    kept["ece"] = {
        "as it is": found["ece"],
        **{how: scaled["ece"] for how, scaled in found["scaled"].items()},
    }
    kept["log_loss"] = {how: scaled["log_loss"] for how, scaled in found["scaled"].items()}
    for method in ("least", "adaptive"):
        shares = coverage(truth, every[0], method)
        near = sum(abs(share - LEVEL) <= 0.02 for share in shares)
        kept[f"coverage, {method}"] = {
            "mean": float(np.mean(shares)), "least": min(shares), "most": max(shares), "within 2 points": near, "splits": SPLITS,
        }  # fmt: skip
    results.write(
        f"calibration_{name}", "calibration of a network, and conformal sets of 90%", [{"set": name, **kept}]
    )


if __name__ == "__main__":
    for name in labels.asked(__doc__, SETS):
        measure(name)
