"""Seconds from the libraries being imported to the end of the first training step, at the first start on
some data and at the second: images in several forms, and tables of a million rows and of fifty thousand.
The recipe's own settings, nothing forced; each start is a process of its own. Sources that are not on this
machine are left out. About five minutes; --quick takes smaller tables and one start of each."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import results
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data"
ROUNDS = 3
_CHILD = """
import json, sys, time
from jichu.core.config import check
from jichu.recipe.config import Recipe
from jichu.recipe.run import execute
from jichu.core.progress import console
import jichu.recipe.stages, jichu.data.readers.table, jichu.data.readers.image_folder, pyarrow.csv
import torch._dynamo  # which every optimizer of torch's imports
console.quiet = True
print(time.monotonic(), flush=True)
data = {"path": sys.argv[1]} | json.loads(sys.argv[2])
stage = {"stage": "finetune", "budget": "1 epochs", "log_every": 1}
execute(check(Recipe, {"name": "start", "data": data, "stages": [stage]}, where="recipe"))
"""


def rows(count):
    """A table of `count` rows: ten numbers, four categories, a target."""
    rng = np.random.default_rng(0)
    numbers = {f"n{i}": rng.normal(size=count).round(4).astype(np.float32) for i in range(10)}
    words = pa.array(["red", "green", "blue", "white", "black"])
    codes = {f"c{i}": words.take(pa.array(rng.integers(0, 5, count))) for i in range(4)}
    label = np.where(numbers["n0"] + rng.normal(size=count) > 0, "yes", "no")
    return pa.table({**numbers, **codes, "label": label})


def sources(folder, quick):
    """{name: (path, what else the recipe says of data)}, made in `folder` where they are not at hand."""
    count = 20_000 if quick else 1_000_000
    pa.csv.write_csv(rows(count), folder / "table.csv")
    pq.write_table(rows(count), folder / "table.parquet")
    rng = np.random.default_rng(0)
    for i in range(500 if quick else 10_000):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / "photos" / "abcdefgh"[i % 8] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((96, 96)).save(path)
    found = {
        f"CSV, {count:,} rows": (folder / "table.csv", {}),
        f"Parquet, {count:,} rows": (folder / "table.parquet", {}),
        "folder of photographs": (folder / "photos", {}),
    }
    grades = {"target": "c15", "columns": {"c15": {"rename": {"<=50K.": "<=50K", ">50K.": ">50K"}}}}
    for name, about in (("mnist", {}), ("cifar10", {}), ("adult", grades)):
        if (SHARED / name).exists():
            found[name] = (SHARED / name, about)
    return found


def start(path, about, cache):
    """Seconds from the imports to the first logged step of a run of its own."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "runs", "start", "metrics.jsonl")
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), json.dumps(about)],
            cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "JICHU_CACHE": str(cache)},
        )  # fmt: skip
        try:
            imported = float(child.stdout.readline())
            while not (metrics.exists() and metrics.stat().st_size):
                if child.poll() is not None:
                    sys.exit(f"{path}: the run ended before its first step")
                time.sleep(0.005)
            return time.monotonic() - imported
        finally:
            child.kill()
            child.wait()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    found, ratio = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, (path, about) in sources(Path(temporary), quick).items():
            caches = [Path(temporary, "cache", name, str(i)) for i in range(1 if quick else ROUNDS)]
            times = {
                "first": [start(path, about, cache) for cache in caches],
                "second": [start(path, about, cache) for cache in caches],
            }
            for which, seconds in times.items():
                found.append({"system": f"{name}: {which} start", "value": statistics.median(seconds),
                              "low": min(seconds), "high": max(seconds)})  # fmt: skip
                print(f"{found[-1]['system']:45} {found[-1]['value']:7.2f} s", flush=True)
            ratio[f"{name}: first start"] = statistics.median(times["second"]) / statistics.median(
                times["first"]
            )
    if not quick:
        metric = "seconds from the libraries being imported to the end of the first step, median and range"
        results.write("second_start", metric, found, ratio)


if __name__ == "__main__":
    main()
