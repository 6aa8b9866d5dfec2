"""How far apart a model's decisions are for two groups, before and after each way of bringing them together, and what that
costs: census income and German credit by sex, which no model sees. A linear model and a small network, as they are, with
rows reweighed, fitted by exponentiated gradient, and with thresholds by group (two minutes on two cores).

    python benchmarks/fairness.py --sets census
"""

import csv

import duel
import labels
import results

import jichu
from jichu.metrics.thresholds import Goal

GOALS = Goal.__args__
GAPS = [f"{goal}_difference" for goal in GOALS]
NETWORK = {"backbone": {"name": "mlp", "widths": [64, 64]}, "optimizer": {"name": "adamw", "lr": 0.002}}


def census():
    return {
        "data": {
            "path": str(duel.DATA / "adult"), "target": "c15", "aside": ["c10"], "split": {"validation": 0.1},
            "columns": {"c15": {"rename": {"<=50K.": "<=50K", ">50K.": ">50K"}}},
        },
        "sex": "c10", "favourable": ">50K", "network": {**NETWORK, "batch_size": 256, "budget": "3 epochs"},
    }  # fmt: skip


def german():
    """Column 9 tells sex and marital status in one (A92 and A95 are women); only the sex is kept of it. 1 is a good risk."""
    path = duel.CACHE / "german.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(duel.DATA / "german_credit" / "german.csv", newline="") as file:
        rows = [
            [*row[:8], *row[9:], "female" if row[8] in ("A92", "A95") else "male"] for row in csv.reader(file)
        ]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[*(f"c{i}" for i in range(1, len(rows[0]) - 1)), "risk", "sex"], *rows])
    return {
        "data": {"path": str(path), "target": "risk", "aside": ["sex"], "split": {"test": 0.4, "validation": 0.2}},
        "sex": "sex", "favourable": "1", "network": {**NETWORK, "batch_size": 32, "budget": "8 epochs"},
    }  # fmt: skip


SETS = {"census": census, "german-credit": german}


def stages(made):
    """The linear model first, which is the run's result."""
    even = {"reweigh": [made["sex"]]}
    linear, network = {"head": "logistic-regression"}, made["network"]
    fitted = {
        "linear": linear,
        "linear_reweighed": linear | even,
        "network": network,
        "network_reweighed": network | even,
    }
    for goal in GOALS:
        fitted[f"linear_gradient_{goal}"] = {
            "head": {"name": "fair-logistic-regression", "by": [made["sex"]], "goal": goal}
        }
    return [{"stage": "finetune", "name": name, **keys} for name, keys in fitted.items()]


def told(system, gaps, accuracy):
    return [{"system": system, "of": name, **interval} for name, interval in
            {"accuracy": accuracy, **{gap: gaps[gap] for gap in GAPS}}.items()]  # fmt: skip


def measure(name):
    made = SETS[name]()
    part = {"name": "fairness", "by": [made["sex"]], "favourable": made["favourable"]}
    audit = {"stage": "audit", "metrics": ["accuracy"], "parts": [part]}
    folder, summary = labels.run(name, made["data"], [*stages(made), audit])
    groups = jichu.audit(folder.path, parts=[part])["parts"]["fairness"]["groupings"][0]
    rows = []
    for system, found in labels.read_json(folder.audit)["parts"]["fairness"]["groupings"][0][
        "models"
    ].items():
        rows += told(system, found["gaps"], summary["headline"][system])
    for goal in GOALS:
        found = jichu.audit(folder.path, parts=[{**part, "thresholds": goal}])["parts"]["fairness"][
            "thresholds"
        ]
        (moved,) = found["models"].values()
        rows += told(f"linear_thresholds_{goal}", moved["gaps"]["after"], moved["accuracy"]["after"])
    about = {
        "rows_by_group": dict(zip(groups["groups"], groups["rows"], strict=True)),
        "favourable": made["favourable"],
    }
    results.write(f"fairness_{name}", "accuracy, and gaps between the sexes, on held-out rows", rows, **about)


def main():
    for name in labels.asked(__doc__, SETS):
        measure(name)


if __name__ == "__main__":
    main()
