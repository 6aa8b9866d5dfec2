"""What rules beside a model change: questions whose coarse and fine class have to go together (TREC; a linear model on words,
and a small network with and without a penalty), house prices within what the census recorded, and rows of census income
that contradict themselves (two minutes on two cores).

    python benchmarks/rules.py --sets questions
"""

import collections

import duel
import labels
import results

NETWORK = {
    "backbone": "words", "head": "linear", "batch_size": 64, "budget": "15 epochs",
    "optimizer": {"name": "adamw", "lr": 0.01},
}  # fmt: skip


def tree():
    """Which fine classes each coarse class has, as the labels of the training questions say."""
    fine = collections.defaultdict(set)
    for line in (duel.DATA / "trec" / "train.txt").read_text(encoding="latin-1").splitlines():
        coarse, _, kind = line.split(" ", 1)[0].partition(":")
        fine[coarse].add(kind)
    return [{"name": c, "rule": f"if label = {c} then fine in ({', '.join(sorted(f))})"} for c, f in sorted(fine.items())]  # fmt: skip


def questions():
    data = {
        "path": str(duel.DATA / "trec"), "reader": {"name": "text", "line": "{label}:{fine} {text}"},
        "target": ["label", "fine"],
    }  # fmt: skip
    rules = {weight: [{**rule, "penalty": weight} for rule in tree()] for weight in (0.0, 0.1, 1.0)}
    linear = {"linear": ({"backbone": "words", "head": "logistic-regression"}, rules[0.0])}
    return data, linear | {f"network, penalty {w:g}": (NETWORK, r) for w, r in rules.items()}


def houses():
    data = {"path": str(duel.DATA / "california_housing"), "target": "median_house_value"}
    rules = [{"name": "recorded", "rule": "median_house_value >= 14999 and median_house_value <= 500001"}]
    return data, {"linear": ({"head": "ridge"}, rules)}


def census():
    data = {
        "path": str(duel.DATA / "adult"), "target": "c15",
        "columns": {"c15": {"rename": {"<=50K.": "<=50K", ">50K.": ">50K"}}},
    }  # fmt: skip
    rules = [
        {"name": "husband", "rule": "if c8 = Husband then c10 = Male and c6 in (Married-civ-spouse, Married-AF-spouse)"},
        {"name": "wife", "rule": "if c8 = Wife then c10 = Female and c6 in (Married-civ-spouse, Married-AF-spouse)"},
        {"name": "unmarried", "rule": "if c6 = Never-married then c8 not in (Husband, Wife)"},
    ]  # fmt: skip
    return data, {"linear": ({"head": "logistic-regression"}, rules)}


SETS = {"questions": questions, "houses": houses, "census": census}


def measure(name):
    data, systems = SETS[name]()
    rows, found = [], {}
    for system, (keys, rules) in systems.items():
        stages = [{"stage": "finetune", "name": "model", **keys}, {"stage": "audit"}]
        folder, _ = labels.run(name, data, stages, rules=rules)
        found = labels.read_json(folder.audit)["parts"]["rules"]
        model = found["models"]["model"]
        for column, told in model["targets"].items():
            rows += [
                {"system": system, "of": f"{column}: {key}", **told[key]}
                for key in ("without", "with", "better_by", "changed")
            ]
        rows += [
            {"system": system, "of": f"alone breaks {r}", **share} for r, share in model["alone"].items()
        ]
    rows += [{"system": "data", "of": r, **share} for r, share in found["data"].items()]
    about = {"held_out_rows": found["rows"]}
    results.write(f"rules_{name}", "with the rules and without, on held-out rows", rows, **about)


def main():
    for name in labels.asked(__doc__, SETS):
        measure(name)


if __name__ == "__main__":
    main()
