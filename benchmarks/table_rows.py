"""A table of a million rows, 16 numbers and 4 categories, and an MLP, batch 1,024: rows a second beside the
plain loop with a DataLoader over rows of arrays, over rows of a pandas frame, and over a TensorDataset; once
with the dense layers that are our default, where computing takes most of a loop's time, once with a small one,
where the DataLoader does. From 900 steps after 50 that do not count (about 10 minutes on 2 cores)."""

import duel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1_000_000
SIZES = [5, 20, 100, 400]
WIDTHS = {"table_rows": [256, 128], "table_rows_small": [64]}


def table(rows):
    """The rows as Parquet for us, as arrays for the peers; made once. The label is drawn from a logistic
    model of the columns."""
    folder = duel.CACHE / "table" / str(rows)
    parquet, arrays = folder / "rows.parquet", folder / "rows.npz"
    if not parquet.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        numbers = (draw.normal(size=(rows, 16)) * draw.uniform(0.1, 100, 16)).astype(np.float32)
        codes = np.stack([draw.integers(0, n, rows) for n in SIZES], 1)
        effects = sum(draw.normal(size=n)[codes[:, i]] for i, n in enumerate(SIZES))
        score = (numbers / numbers.std(0)) @ draw.normal(size=16) + effects
        labels = (draw.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int64)
        np.savez(arrays, numbers=numbers, categories=codes, labels=labels)
        columns = {f"number_{i}": numbers[:, i] for i in range(16)}
        columns |= {f"category_{i}": np.char.add("c", codes[:, i].astype(str)) for i in range(len(SIZES))}
        pq.write_table(pa.table(columns | {"label": np.where(labels == 1, "yes", "no")}), parquet)
    return str(parquet), str(arrays)


def systems(quick, widths=(256, 128), batch=1024, **settings):
    warm, steps = (5, 10) if quick else (50, 900)
    parquet, arrays = table(ROWS // 20 if quick else ROWS)
    stage = {
        "stage": "finetune", "backbone": {"name": "mlp", "widths": list(widths)}, "budget": f"{2 * (warm + steps)} steps",
        "batch_size": batch, "optimizer": {"name": "adamw", "lr": 1e-3}, "schedule": "constant", "warmup": 0.0,
        "log_every": warm, **settings,
    }  # fmt: skip
    tree = {
        "name": "table",
        "data": {"path": parquet, "split": {"test": 0.01}},
        "stages": [stage, {"stage": "audit"}],
    }
    ours = {"recipe": duel.write_recipe(tree), "stage": "finetune", "warm_steps": warm}
    plain = {
        "data": arrays, "batch_size": batch, "warm_steps": warm, "steps": steps, "widths": widths,
        # a code of its own for what is not known, and vectors as wide as ours
        "sizes": [n + 1 for n in SIZES], "vectors": [min(32, int(np.ceil(1.6 * (n + 1) ** 0.56))) for n in SIZES],
    }  # fmt: skip
    frame = {**plain, "frame": True, "warm_steps": 2, "steps": min(steps, 50)}  # slow, so from fewer steps
    return [
        duel.System(duel.OURS, "ours.py", ours),
        duel.System("plain loop", "plain_table.py", plain, "torch"),
        duel.System("plain loop, 2 workers", "plain_table.py", {**plain, "workers": 2}, "torch"),
        duel.System("plain loop, TensorDataset", "plain_table.py", {**plain, "tensors": True}, "torch"),
        duel.System("plain loop, pandas rows", "plain_table.py", frame, "torch"),
    ]


def main():
    given = duel.arguments(__doc__, rounds=3, parts=list(WIDTHS))
    for name in given.parts:
        found = duel.duel(systems(given.quick, WIDTHS[name]), given)
        metric = f"rows a second, batch 1,024, {ROWS:,} rows, dense layers {WIDTHS[name]}"
        duel.told(name, metric, given, *duel.figures(found))


if __name__ == "__main__":
    main()
