"""Graphs of 8 and 4 bits beside the float32 graph in ONNX Runtime: size, speed of one row and of 32, and the score on held-out
rows with what is lost of it, paired; of CIFAR-10 by the recipe cifar10-best, and of two sets of reviews by a small BERT. All
graphs of a model are timed in turns. With runs that are there (--runs) ten minutes on a quiet machine; trained first, half an
hour more. The aim is 3.5 times smaller and 1.5 times as fast at half a point lost.

    python benchmarks/int8.py --runs cifar10=runs/cifar10-best sst2=runs/sst2
"""

import argparse
import os
import tempfile
from pathlib import Path

import duel
import labels
import results

import jichu
from jichu.graph_inputs import timing
from jichu.recipe.config import read_recipe
from jichu.recipe.run import execute
from jichu.ship.measured import available, measure
from jichu.ship.onnx_model import OnnxModel
from jichu.ship.quantize import QUANTIZATIONS

ROWS = 32  # of a batch
AIM = {"smaller": 3.5, "faster": 1.5, "points": 0.5}
READERS = {
    "sst2": {"reader": {"name": "text", "line": "{label}\t{text}", "suffixes": [".tsv"]}},
    "chnsenticorp": {"target": "label"},
}
TOKENIZERS = {
    "sst2": {"name": "wordpiece", "vocabulary": 8000, "lowercase": True},
    "chnsenticorp": {"name": "wordpiece", "vocabulary": 8000},
}


def trained(name, quick):
    """A run of a set, by its recipe."""
    if name == "cifar10":
        changes = [f"data.path={duel.DATA / name}"]
        changes += ["stages.resnet9.budget=2 steps", "stages.resnet9.backbone.base=4"] if quick else []
        return execute(read_recipe("cifar10-best", changes)).path
    network = {"name": "bert", "width": 256, "depth": 4, "heads": 4}
    stage = labels.stage(
        "bert", backbone=network, batch_size=32, budget="2 steps" if quick else "2 epochs",
        optimizer={"name": "adamw", "lr": 0.0005, "weight_decay": 0.05},
    )  # fmt: skip
    data = {"path": str(duel.DATA / name), "context": 64, "tokenizer": TOKENIZERS[name], **READERS[name]}
    return labels.run(f"int8-{name}", data, [stage, {"stage": "audit"}])[0].path


def graphs(run, folder):
    """The float32 graph, one of each scheme, and what each of these loses."""
    whole = jichu.export(run, output=folder / "float32.onnx").path
    made = {
        name: jichu.export(run, output=folder / f"{name}.onnx", quantize=name, allow_loss=100)
        for name in sorted(QUANTIZATIONS)
    }
    return [whole, *(found.path for found in made.values())], {
        n: found.quantized for n, found in made.items()
    }


def measured(name, run, threads, rounds):
    """The rows of a set in the results."""
    with tempfile.TemporaryDirectory() as folder:
        paths, lost = graphs(run, Path(folder))
        inputs = timing(run, OnnxModel(paths[0]).signature.inputs, None, ROWS)
        for count in threads:
            found = measure(paths, inputs, threads=count, rounds=rounds)
            for path, about in zip(paths, found, strict=True):
                yield from told(name, path.stem, about, lost.get(path.stem))


def told(name, scheme, about, lost):
    """A row for one row alone and a row for a batch."""
    common = {"smaller": 1 / about.size_ratio, "bytes": about.size_bytes, "threads": about.threads}
    if lost is not None:
        common |= {"metric": lost.metric, "score": lost.after, "float32": lost.before, "points_lost": lost.lost,
                   "changed": lost.changed, "rows": lost.rows}  # fmt: skip
    alone = {"milliseconds": about.latency_ms.value, "p90": about.latency_p90_ms}
    for batch, ratio, more in (
        (1, about.latency_ratio, alone),
        (about.batch_size, about.throughput_ratio, {"rows_per_second": about.rows_per_second.value}),
    ):
        reached = lost is not None and (
            common["smaller"] >= AIM["smaller"] and ratio.value >= AIM["faster"] and lost.lost.value <= AIM["points"]
        )  # fmt: skip
        yield {
            "system": f"{name}, {scheme}, batch {batch}, threads {about.threads}", **ratio._asdict(), **common, **more,
            "reaches_the_aim": reached,
        }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="runs of two steps, three rounds: does it run at all?"
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--sets", nargs="*", default=["cifar10", *READERS], choices=["cifar10", *READERS])
    parser.add_argument(
        "--runs", nargs="*", default=[], metavar="SET=RUN", help="runs that are there already"
    )
    given = parser.parse_args()
    known = {name: Path(path).resolve() for name, _, path in (run.partition("=") for run in given.runs)}
    os.chdir(tempfile.mkdtemp())
    rows = []
    for name in given.sets:
        run = jichu.open(known.get(name) or trained(name, given.quick))
        threads = sorted({1, available()})
        rows += measured(name, run, threads, 3 if given.quick else given.rounds)
    best = {
        row["system"].rpartition(", ")[0]: row["value"]
        for row in rows if row["threads"] == available() and "float32," not in row["system"]
    }  # fmt: skip
    metric = "times as fast as the float32 graph in ONNX Runtime, median of rounds"
    if given.quick:
        print(metric, best)
        return
    results.write("int8", metric, rows, best, aim=AIM, rounds=given.rounds)


if __name__ == "__main__":
    main()
