"""The rungs between a linear probe and full fine-tuning, on two sets of images, one of sounds and two of texts (one
Chinese): score, parameters that are trained, seconds and memory of a step for each. Every set is pretrained on once;
the rungs start from that, with a tenth of the labels, or 250 of a class, drawn three times.

    python benchmarks/ladder.py --sets digits-spoken
"""

import duel
import labels
import results

from jichu.core.files import read_json

PAGE = results.FOLDER.parents[1] / "docs" / "adapting.md"

RUNGS = {
    "probe": {"adapt": "head"}, "last block": {"adapt": "last-1"}, "gradual": {"adapt": "gradual"},
    "discriminative": {"adapt": "discriminative"}, "lora": {"adapt": "lora"}, "dora": {"adapt": "dora"},
    "full": {"adapt": "full"},
}  # fmt: skip
FASTER = 5  # times the rate of full fine-tuning: a probe, and adapters of transformers


def images(name, **keys):
    made = labels.SETS[name]()
    fitted = {"augment": made["pretrain"]["augment"], "batch_size": 64, "optimizer": labels.ADAMW, **keys}
    return {**made, "labels": {"labels_share": 0.1}, "fitted": fitted}


def sounds():
    made = labels.SETS["digits-spoken"]()
    fitted = {"augment": "auto", "batch_size": 32, "optimizer": labels.ADAMW, "budget": "600 steps"}
    return {**made, "labels": {"labels_share": 0.1}, "fitted": fitted}


def texts(folder, **data):
    """A small BERT, pretrained on the texts themselves."""
    optimizer = {"name": "adamw", "lr": 0.0003, "weight_decay": 0.01}
    return {
        "data": {"path": str(duel.DATA / folder), "context": 64, **data}, "labels": {"labels_per_class": 250},
        "pretrain": {"backbone": "bert-mini", "objective": "masked", "budget": "1000 steps", "batch_size": 64,
                     "optimizer": {"name": "adamw", "lr": 0.0005, "weight_decay": 0.01}},
        "fitted": {"batch_size": 32, "optimizer": optimizer, "budget": "200 steps"},
    }  # fmt: skip


SETS = {
    "cifar10": lambda: images("cifar10", budget="600 steps"),
    "mnist": lambda: images("mnist", budget="400 steps"),
    "digits-spoken": sounds,
    "sst2": lambda: texts("sst2"),
    "chnsenticorp": lambda: texts("chnsenticorp"),
}


def measure(name):
    made = SETS[name]()
    folder = labels.pretrained(name, made)
    rows = []
    for rung, keys in RUNGS.items():
        fitted = made["fitted"]
        faster = rung == "probe" or (rung in ("lora", "dora") and "augment" not in fitted)
        rate = fitted["optimizer"]["lr"] * (FASTER if faster else 1)
        stage = {**fitted, **keys, "optimizer": {**fitted["optimizer"], "lr": rate}}
        if rung == "probe":
            stage.pop("augment", None)  # features are computed once
        stages = [
            {"stage": "finetune", "name": "rung", "from": folder, **stage},
            {"stage": "audit"},
        ]
        summary = labels.run(
            f"{name}-{rung.replace(' ', '-')}", {**made["data"], **made["labels"], "draws": 3}, stages
        )[1]
        about = next(s for s in summary["stages"] if s["name"] == "rung")
        told = {k: about["metrics"][k] for k in ("trained_parameters", "parameters", "memory_mib")}
        score = next(iter(summary["headline"].values()))
        rows.append({"system": rung, **score, "seconds": about["seconds"], **told})
    results.write(
        f"ladder_{name}", "the first metric of the audit on held-out rows, three draws of labels", rows
    )


def page():
    """The table of all sets that were ever measured, between its marks in docs/adapting.md."""
    lines = [
        "| data | `adapt` | accuracy | parameters trained | seconds | memory of a step, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name in SETS:
        path = results.FOLDER / f"ladder_{name}.json"
        for row in read_json(path)["rows"] if path.exists() else []:
            share = row["trained_parameters"] / row["parameters"]
            told = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            lines.append(
                f"| {name} | {row['system']} | {told} | {row['trained_parameters']:,} ({share:.1%}) |"
                f" {row['seconds']:.0f} | {row['memory_mib'] or '–'} |"
            )
    labels.between_marks(PAGE, lines)


def main():
    for name in labels.asked(__doc__, SETS):
        measure(name)
        page()


if __name__ == "__main__":
    main()
