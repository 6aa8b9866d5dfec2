"""Whether a row costs the same however many there are: microseconds a row for loading a Parquet table of
twelve columns for the first time, for finding it again, and for an epoch of a small MLP (after its plan
was made), at 10⁴ to 10⁷ rows. Each size is a process of its own; the small ones run several epochs. About
fifteen minutes, 3 GB of disk and 4 GB of memory; --quick stops at 10⁵."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import results

ROUNDS = 3
_ROWS_TRAINED = 2_000_000  # at least, so that starting does not count
_CHILD = """
import json, sys, time
import torch
import jichu.api as jichu, jichu.data.readers.table, pyarrow.parquet, torch._dynamo
from jichu.core.progress import console
from jichu.data.batches import Batches
from jichu.models.heads import Linear
from jichu.models.inputs import Inputs
from jichu.models.mlp import Mlp
from jichu.models.model import Model
from jichu.objectives.supervised import Classification
from jichu.train.config import TrainConfig
from jichu.train.fit import fit
console.quiet = True
path, least = sys.argv[1], int(sys.argv[2])
jichu.load("sklearn:iris")  # whatever is imported at the first use
started = time.monotonic()
data = jichu.load(path)
first = time.monotonic() - started
time.sleep(0.1)
started = time.monotonic()
data = jichu.load(path)
again = time.monotonic() - started
rows = data.splits["train"]
epochs = max(1, -(-least // len(rows)))
torch.manual_seed(0)
numbers, sizes = len(data.table.number_names), data.table.sizes
body = Mlp(numbers=numbers, categories=sizes, widths=[64])
model = Model(body, {"label": Linear(body.width, 2)}, Inputs(numbers=numbers, categories=sizes))
model.inputs.estimate(data.tensors, rows)
config = TrainConfig(budget=f"{epochs} epochs", batch_size=1024, precision="float32", log_every=1000)
batches = Batches(data.tensors, rows, batch_size=1024)
fitted = fit(model, Classification(), batches, config)
print(json.dumps([first / len(data), again / len(data), fitted.seconds / fitted.rows]))
"""


def write(path, rows):
    """Eight numbers, three categories, two classes, in parts that need little memory."""
    words = pa.array(["red", "green", "blue", "white", "black"])
    schema = None
    for part in range(-(-rows // 1_000_000)):
        count = min(1_000_000, rows - 1_000_000 * part)
        rng = np.random.default_rng(part)
        numbers = {f"n{i}": rng.normal(size=count).astype(np.float32) for i in range(8)}
        codes = {f"c{i}": words.take(pa.array(rng.integers(0, 5, count))) for i in range(3)}
        label = np.where(numbers["n0"] + rng.normal(size=count) > 0, "yes", "no")
        table = pa.table({**numbers, **codes, "label": label})
        if schema is None:
            schema = pq.ParquetWriter(path, table.schema)
        schema.write_table(table)
    schema.close()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true")
    quick = options.parse_args().quick
    sizes = [10**4, 10**5] if quick else [10**4, 10**5, 10**6, 10**7]
    found, epoch = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            path = Path(temporary, f"{size}.parquet")
            write(path, size)
            times = []
            for i in range(1 if quick else ROUNDS):
                cache = Path(temporary, f"cache-{size}-{i}")
                out = subprocess.run(
                    [sys.executable, "-c", _CHILD, str(path), str(size if quick else _ROWS_TRAINED)],
                    check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "JICHU_CACHE": str(cache)},
                ).stdout  # fmt: skip
                times.append([1e6 * seconds for seconds in json.loads(out)])
                subprocess.run(["rm", "-rf", str(cache)], check=True)
            for name, values in zip(
                ("first load", "second load", "training epoch"), zip(*times, strict=True), strict=True
            ):
                middle = statistics.median(values)
                found.append(
                    {
                        "system": f"{name}, {size:,} rows",
                        "value": middle,
                        "low": min(values),
                        "high": max(values),
                    }
                )
                print(f"{found[-1]['system']:32} {middle:10.3f} µs a row", flush=True)
            epoch[size] = found[-1]["value"]
    if not quick:
        ratio = {f"{size:,} rows to 10,000": cost / epoch[10**4] for size, cost in epoch.items()}
        results.write("flat_cost", "microseconds a row, median and range of 3", found, ratio)


if __name__ == "__main__":
    main()
