"""How good with how few labels? Each data set is pretrained on once, without labels; then, for each share of the labels
and three draws of them, a network from scratch, the pretrained one with a linear probe and fine-tuned, one that learns
from the rows without label too, and a classical model. A quarter of an hour to an hour and a half for each set on two
cores; what is drawn in docs/labels.svg and docs/labels.md is of the sets that were ever measured.

    python benchmarks/labels.py --sets digits-spoken census
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import tempfile

import duel
import results

from jichu.auditing import figures
from jichu.core.config import check
from jichu.core.files import read_json
from jichu.recipe.config import Recipe
from jichu.recipe.run import execute

DRAWS = 3
PAGE = results.FOLDER.parents[1] / "docs" / "labels.md"
FIGURE = PAGE.with_suffix(".svg")
ADAMW = {"name": "adamw", "lr": 0.002, "weight_decay": 0.02}
SYSTEMS = {
    "classical": "best classical model", "scratch": "network from scratch", "semi": "semi-supervised, from scratch",
    "probe": "pretrained, linear probe", "tuned": "pretrained, fine-tuned",
}  # fmt: skip


def stage(name, **keys):
    usual = {} if "head" in keys else {"optimizer": ADAMW}  # a classical model is estimated in one go
    return {"stage": "finetune", "name": name, **usual, **keys}


def semi(steps, ratio=2, threshold=0.9, **keys):
    """FixMatch from scratch for half the steps, each of which looks at `1 + 2 × ratio` times the rows."""
    wrap = [{"name": "fixmatch", "ratio": ratio, "threshold": threshold}]
    return stage("semi", wrap=wrap, budget=f"{int(steps.split()[0]) // 2} steps", **keys)


def images(folder, shares, steps, pretraining, base=16, augment="auto", metrics=("accuracy",), **keys):
    """A set of images: networks of one size, and logistic regression on the pixels, of all labels a part."""
    network = {"backbone": {"name": "resnet9", "base": base}}
    fitted = {"augment": augment, "batch_size": 64, **keys}
    return {
        "data": {"path": str(duel.DATA / folder)}, "shares": shares, "metrics": list(metrics),
        "pretrain": {**network, "objective": "simclr", "batch_size": 256, "augment": augment, "budget": pretraining,
                     "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 1e-4}},
        "stages": lambda share: [
            stage("classical", backbone="pixels", head="logistic-regression"),
            stage("scratch", **network, budget=steps[share], **fitted),
            semi(steps[share], **network, **fitted),
            stage("probe", adapt="head", head="logistic-regression"),
            stage("tuned", budget=steps[share], **fitted),
        ],
    }  # fmt: skip


def sounds():
    """Spoken digits by speakers that were never heard before."""
    network = {"backbone": {"name": "resnet9", "base": 16}}
    fitted = {"augment": "auto", "batch_size": 32}
    steps = {0.02: "600 steps", 0.1: "800 steps", 1.0: "1500 steps"}
    reader = {"name": "audio_folder", "pattern": "_(?P<speaker>[a-z]+)_"}
    return {
        "data": {"path": str(duel.DATA / "fsdd"), "reader": reader, "split": {"group": "speaker", "test": 0.33}},
        "shares": list(steps), "metrics": ["accuracy"],
        "pretrain": {**network, "objective": "simclr", "batch_size": 128, "budget": "1200 steps",
                     "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 1e-4}},
        "stages": lambda share: [
            stage("classical", head="logistic-regression"),
            stage("scratch", **network, budget=steps[share], **fitted),
            semi(steps[share], **network, **fitted),
            stage("probe", adapt="head", head="logistic-regression"),
            stage("tuned", budget=steps[share], **fitted),
        ],
    }  # fmt: skip


def tables(folder, target, steps, pretraining, **data):
    """A table, by the networks and rates of the recipe tabular-pretrained; the better one of trees and a linear model is
    the classical one."""
    network = {"backbone": {"name": "mlp", "widths": [256, 256], "norm": "batch", "numeric": "periodic"}}
    fitted = {"batch_size": 50, "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.02}}
    return {
        "data": {"path": str(duel.DATA / folder), "target": target, **data},
        "shares": list(steps), "metrics": ["auroc"],
        "pretrain": {**network, "objective": "simclr", "batch_size": 256, "budget": pretraining,
                     "optimizer": {"name": "adamw", "lr": 0.002, "weight_decay": 1e-4}},
        "stages": lambda share: [
            stage("trees", head={"name": "gradient-boosting", "trees": 100, "learning_rate": 0.05}),
            stage("linear", head={"name": "logistic-regression", "c": 0.1}),
            stage("scratch", **network, budget=steps[share], **fitted),
            semi(steps[share], 4, 0.8, **network, **fitted),
            stage("probe", head={"name": "logistic-regression", "c": 0.1}),
            stage("tuned", adapt="discriminative", budget=steps[share], **fitted),
        ],
    }  # fmt: skip


def series():
    """The months of ETTh1 that papers use: twelve to train, four to choose, four to measure. A share of the labels is
    the latest part of the training windows."""
    folder = duel.CACHE / "etth1"
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(duel.DATA / "etth1" / "ETTh1.csv.gz", "rt") as file:
        (folder / "ETTh1.csv").write_text("".join(line for line, _ in zip(file, range(14_401), strict=False)))
    network = {"backbone": {"name": "patchtst", "width": 16, "mlp": 8, "dropout": 0.3}}
    fitted = {"batch_size": 64, "optimizer": {"name": "adamw", "lr": 0.0005}, "budget": "1000 steps", "patience": 3,
              "evaluate_every": 100}  # fmt: skip
    return {
        "data": {"path": str(folder / "ETTh1.csv"), "series": {"context": 336, "horizon": 96},
                 "split": {"validation": 0.2, "test": 0.2}},
        "shares": [0.1, 1.0], "metrics": ["scaled_mse", "scaled_mae"], "seeds": DRAWS,
        "pretrain": {**network, "objective": "masked-series", "batch_size": 64, "budget": "1500 steps",
                     "optimizer": {"name": "adamw", "lr": 0.001}},
        "stages": lambda share: [
            stage("naive", head="seasonal-naive"), stage("linear", head="linear-forecast"),
            stage("scratch", **network, **fitted), stage("probe", adapt="head", **fitted), stage("tuned", **fitted),
        ],
    }  # fmt: skip


SETS = {
    "digits-spoken": sounds,
    "census": lambda: tables(
        "adult", "c15", {0.002: "60 steps", 0.01: "200 steps", 0.1: "600 steps", 1.0: "3000 steps"}, "2000 steps",
        columns={"c15": {"rename": {"<=50K.": "<=50K", ">50K.": ">50K"}}},
    ),
    "german-credit": lambda: tables(
        "german_credit", "c21", {0.05: "60 steps", 0.2: "100 steps", 1.0: "200 steps"}, "600 steps"
    ),
    "etth1": series,
    "mnist": lambda: images(
        "mnist", [0.01, 0.1, 1.0], {0.01: "1000 steps", 0.1: "1500 steps", 1.0: "3000 steps"}, "2000 steps"
    ),
    "pneumonia": lambda: images(
        "pneumoniamnist", [0.01, 0.1, 1.0], dict.fromkeys((0.01, 0.1, 1.0), "800 steps"), "1200 steps",
        augment={"rotate": 10, "translate": 0.08, "scale": [0.9, 1.1], "colour": 0.3, "crop": 0.6}, metrics=["auroc"],
    ),
    "cifar10": lambda: images(
        "cifar10", [0.01, 0.1, 1.0], {0.01: "1500 steps", 0.1: "2000 steps", 1.0: "6000 steps"}, "4000 steps"
    ),
}  # fmt: skip


def run(name, data, stages, seed=0, **keys):
    """What the recipe of these stages, and further keys, came to: the folder and its summary."""
    folder = execute(check(Recipe, {"name": name, "seed": seed, "data": data, "stages": stages, **keys}))
    return folder, read_json(folder.summary)


def pretrained(name, made, seed=0):
    """The run of a set's one pretraining, kept: the ladder of adaptation starts from the same."""
    told = json.dumps([made["data"], made["pretrain"], seed])
    kept = duel.CACHE / "pretrained" / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    if not kept.exists():
        folder, _ = run(
            f"{name}-{seed}-pretrain", made["data"], [{"stage": "pretrain", **made["pretrain"]}], seed
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder.path, kept)
    return str(kept)


def curve(name, made, seed=0):
    """{share: {system: interval}} of one pretraining."""
    folder = pretrained(name, made, seed)
    found = {}
    for share in made["shares"]:
        draws = DRAWS if share < 1 and "series" not in made["data"] else 1
        data = {**made["data"], "labels_share": share, "draws": draws}
        stages = [
            {**s, "from": folder} if s["name"] in ("probe", "tuned") else s
            for s in made["stages"](share)
            if not (share == 1 and s["name"] == "semi")
        ]
        audit = {"stage": "audit", "metrics": made["metrics"]}
        found[share] = run(f"{name}-{seed}-{share:g}", data, [*stages, audit], seed)[1]["headline"]
    return found


def measure(name):
    made = SETS[name]()
    seeds = range(made.get("seeds", 1))
    curves = []
    for seed in seeds:  # what is written after each is of those so far
        curves.append(curve(name, made, seed))
        write(name, made, curves)


def write(name, made, curves):
    rows = []
    for share, systems in curves[0].items():
        for system in systems:
            every = [c[share][system] for c in curves]
            middle = sum(i["value"] for i in every) / len(every)
            low, high = min(i["low"] for i in every), max(i["high"] for i in every)
            rows.append({"share": share, "system": system, "value": middle, "low": low, "high": high})
    about = {"metric_is": made["metrics"][0], "lower_is_better": made["metrics"][0] == "scaled_mse"}
    told = f"{made['metrics'][0]} on held-out rows; {DRAWS} draws of the labels, or seeds, where there are several"
    results.write(f"labels_{name}", told, rows, **about)


BEST_OF = {"trees": "classical", "linear": "classical", "naive": "classical"}
TUNED, SCRATCH, _, SEMI, PROBE, _, CLASSICAL = figures.PALETTE
COLOURS = {"classical": CLASSICAL, "scratch": SCRATCH, "semi": SEMI, "probe": PROBE, "tuned": TUNED}
# the ink of the pages, light and dark
INK = "<style>svg { color: #5c5c63 } @media (prefers-color-scheme: dark) { svg { color: #a9a9b2 } }</style>"


def measured():
    """The figures of every set that has some: {set: (lower is better, metric, {share: {system: interval}})}."""
    found = {}
    for name in SETS:
        path = results.FOLDER / f"labels_{name}.json"
        if not path.exists():
            continue
        about = read_json(path)
        shares = {}
        for row in about["rows"]:
            systems = shares.setdefault(row["share"], {})
            system, sign = BEST_OF.get(row["system"], row["system"]), 1 if about["lower_is_better"] else -1
            if system not in systems or sign * row["value"] < sign * systems[system]["value"]:
                systems[system] = row
        found[name] = about["lower_is_better"], about["metric_is"], shares
    return found


def page(found):
    """The table of all sets, between its marks in docs/labels.md."""
    lines = ["| data | labels | " + " | ".join(SYSTEMS.values()) + " |", "|---|---|" + "---|" * len(SYSTEMS)]
    for name, (lower, metric, shares) in found.items():
        for share, systems in shares.items():
            best = (min if lower else max)(systems.values(), key=lambda row: row["value"])
            cells = []
            for system in SYSTEMS:
                row = systems.get(system)
                told = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if row else "–"
                cells.append(f"**{told}**" if row is best else told)
            lines.append(f"| {name}, {metric.replace('_', ' ')} | {share:.1%} | " + " | ".join(cells) + " |")
    between_marks(PAGE, lines)


def between_marks(page, lines):
    """What was measured, in its place on a page."""
    begin, end = "<!-- measured -->\n", "<!-- end -->\n"
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    page.write_text(
        f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}\n{after.lstrip()}", encoding="utf-8"
    )


def figure(found):
    """A panel for each set: the metric against the share of the labels, with intervals."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    across = min(4, len(found))
    down = -(-len(found) // across)
    drawn = Figure(figsize=(3.4 * across, 3.1 * down), layout="constrained")
    FigureCanvasSVG(drawn)
    panels = drawn.subplots(down, across, squeeze=False)
    figures.dress(drawn, panels.flat)
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    for panel, (name, (lower, metric, shares)) in zip(panels.flat, found.items(), strict=False):
        for i, (system, words) in enumerate(SYSTEMS.items()):
            rows = [(share, systems[system]) for share, systems in shares.items() if system in systems]
            if not rows:
                continue
            x = [100 * share * 1.04 ** (i - 2) for share, _ in rows]
            y = [row["value"] for _, row in rows]
            off = [
                [row["value"] - row["low"] for _, row in rows],
                [row["high"] - row["value"] for _, row in rows],
            ]
            panel.errorbar(
                x, y, off, color=COLOURS[system], marker="o", ms=3.5, lw=1.4, elinewidth=0.8, label=words
            )
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.set_title(name)
        panel.set_ylabel(metric.replace("_", " ") + (" (less is better)" if lower else ""))
        panel.set_xlabel("labels, %")
    figures.legend(drawn, panels.flat[0])
    told = figures.svg(drawn, "what pretraining brings, by the share of labels")
    head, tag, rest = told.partition(">\n")  # a picture of its own says what its ink is
    FIGURE.write_text(f"{head}{tag}{INK}\n{rest}", encoding="utf-8")


def asked(told, sets):
    """The sets that the command line names, one after the other, in a folder of their own."""
    options = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", nargs="*", choices=sets, default=list(sets))
    given = options.parse_args()
    os.chdir(tempfile.mkdtemp())
    yield from given.sets


def main():
    for name in asked(__doc__, SETS):
        measure(name)
        page(measured())
        figure(measured())


if __name__ == "__main__":
    main()
