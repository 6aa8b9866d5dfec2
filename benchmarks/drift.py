"""How often `jichu drift` raises an alarm: where nothing has changed, and where something has. Logs are rows of the test
split, drawn anew each time; what they are compared with is the rest of the test split, and for inputs, where the splits
were drawn at random, training rows. Beside it, how
often three tests of features find the same: the energy distance, the maximum mean discrepancy (Gretton et al., 2012) and a
classifier (Lopez-Paz and Oquab, 2017). One or two minutes for each set on one core.

    python benchmarks/drift.py --sets mnist sst2 adult
"""

import argparse
import contextlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import results
import torch
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

import jichu
from jichu.drifts import Comparison
from jichu.metrics import drift
from jichu.metrics.intervals import share_interval
from jichu.ship.drift import observed
from jichu.ship.drift.compare import Pair, Sides, compare

DATA = Path(os.environ.get("JICHU_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROWS = (50, 200, 1000)
ALPHA, SEED = 0.05, 0


def mnist(tiny):
    if tiny:
        head, split = "logistic-regression", {"test": 0.3}
        return jichu.finetune("pixels", "sklearn:digits", head=head, name="digits", split=split)
    return jichu.finetune("cnn", str(DATA / "mnist"), budget="150 steps", name="mnist")


def sst2(tiny):
    return jichu.finetune("gru-text", str(DATA / "sst2"), budget="150 steps", name="sst2", context=48)


def adult(tiny):
    points = {"c15": {"rename": {"<=50K.": "<=50K", ">50K.": ">50K"}}}
    return jichu.finetune(
        "mlp", str(DATA / "adult"), budget="300 steps", name="adult", target="c15", columns=points
    )


def darker(run, rows):
    """Nine tenths of the brightness."""
    pictures = run.dataset().tensors["image"][rows].float() * 0.9
    return list(pictures.round().byte().permute(0, 2, 3, 1).numpy())


def new_words(run, rows, share=0.1):
    """A tenth of the words are made up."""
    rng, texts = np.random.default_rng(SEED), run.dataset().texts["text"]
    told = [bytes(texts[row].numpy()).decode().split() for row in rows.tolist()]
    return [" ".join("qu" + w[::-1] if rng.random() < share else w for w in words) for words in told]


def older(run, rows):
    """Everybody is three years older."""
    dataset = run.dataset()
    found = {name: dataset.column(name) for name in dataset.table.kinds}
    age = next(iter(dataset.table.numbers))
    plain = {
        n: (c.values if c.kind == "number" else np.array([*c.classes, None], object)[c.values])[rows]
        for n, c in found.items()
    }
    plain[age] = plain[age] + 3
    return [
        dict(zip(plain, row, strict=True)) for row in zip(*(v.tolist() for v in plain.values()), strict=True)
    ]


SETS = {"mnist": (mnist, darker), "sst2": (sst2, new_words), "adult": (adult, older)}


class Rows:
    """Test rows as columns, as they are or changed."""

    def __init__(self, inputs, predictions, features):
        self.inputs, self.predictions, self.features = inputs, predictions, features

    def columns(self, group, rows):
        every = {n: c for n, c in getattr(self, group).items() if len(c.values) == len(self.features)}
        return {name: replace(column, values=column.values[rows]) for name, column in every.items()}


def sides(reference, held, rows, logs, picked):
    """What is compared: `picked` logs, with training rows and with those `rows` of the test split that are held out."""
    inputs = dict(reference) or held.columns("inputs", rows)
    mine = logs.columns("inputs", picked)
    if observed.NEW_WORDS in inputs:
        inputs[observed.NEW_WORDS] = held.columns("inputs", rows)[observed.NEW_WORDS]
    pairs = [Pair(name, "inputs", column, mine[name]) for name, column in inputs.items() if name in mine]
    theirs, ours = held.columns("predictions", rows), logs.columns("predictions", picked)
    pairs += [Pair(name, "predictions", column, ours[name]) for name, column in theirs.items()]
    return Sides(pairs, (held.features[rows], logs.features[picked]))


def measured(name, draws, repeats, sizes, tiny):
    make, change = SETS[name]
    run = make(tiny)
    dataset = run.dataset()
    comparison = Comparison(run, dataset, "auto", SEED)
    test = comparison.held_out
    own = comparison.told["reference"] == "train"
    reference = comparison.inputs_of(comparison.rows) if own else {}  # else what is left of the test rows
    said, features = comparison.seen(dataset.tensors, test)
    held = Rows(comparison.inputs_of(test), observed.of_scores(run.targets, said), features)
    side = comparison.of_data(change(run, test))
    changed = Rows(side.inputs, side.predictions, side.features)
    labels = dataset.tensors["label"][test].numpy()
    rng = np.random.default_rng(SEED)
    every = np.arange(len(test))
    without = every[labels != np.bincount(labels).argmin()]
    cases = {
        "nothing": (held, every, draws),
        change.__name__: (changed, every, repeats),
        "missing class": (held, without, repeats),
    }
    found = []
    for case, (logs, pool, times) in cases.items():
        for count in sizes:
            counted = np.zeros(4, int)
            for _ in range(times):
                picked = rng.permutation(pool)[:count]
                rest = np.setdiff1d(every, picked)
                counted += alarms(sides(reference, held, rest, logs, picked), rng)
            told = ("all tests", "energy", "mmd", "classifier")
            for test_name, n in zip(told, counted.tolist(), strict=True):
                value, low, high = share_interval(n, times)
                row = {
                    "system": test_name,
                    "set": name,
                    "case": case,
                    "rows": count,
                    "alarms": n,
                    "of": times,
                }
                found.append({**row, "value": value, "low": low, "high": high})
                print(name, case, count, test_name, f"{n}/{times}", flush=True)
    return found


def alarms(both, rng):
    """Whether all tests together are an alarm, and three of features alone are."""
    one, two = both.features
    few = [rng.permutation(part)[:300] for part in (one, two)]
    p = [drift.energy(*few, 199, rng).p, mmd(*few, 199, rng), classifier(*few, rng)]
    return np.array([compare(both, ALPHA)["alarm"], *(value <= ALPHA for value in p)], int)


def mmd(one, two, draws, rng):
    """A Gaussian kernel as wide as the median distance."""
    rows = np.concatenate([one, two]).astype(np.float64)
    apart = cdist(rows, rows, "sqeuclidean")
    kernel = np.exp(-apart / max(np.median(apart), 1e-12))
    signs = np.concatenate([np.full(len(one), 1 / len(one)), np.full(len(two), -1 / len(two))])
    drawn = rng.permuted(np.tile(signs, (draws, 1)), axis=1)
    return (1 + (((drawn @ kernel) * drawn).sum(1) >= signs @ kernel @ signs).sum()) / (1 + draws)


def classifier(one, two, rng):
    """Whether logistic regression on one half tells the sides of the other apart, as many rows of each."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    count = min(len(one), len(two))
    rows, side = np.concatenate([one[:count], two[:count]]), np.repeat([0, 1], count)
    order = rng.permutation(len(rows))
    fit, rest = order[::2], order[1::2]
    scale = StandardScaler().fit(rows[fit])
    made = LogisticRegression(C=0.1, max_iter=300).fit(scale.transform(rows[fit]), side[fit])
    right = int((made.predict(scale.transform(rows[rest])) == side[rest]).sum())
    return binomtest(right, len(rest), 0.5, alternative="greater").pvalue


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="digits, once each, nothing written")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    draws, repeats, sizes = (1, 1, (50,)) if options.tiny else (options.draws, options.repeats, ROWS)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rows = [row for name in options.sets for row in measured(name, draws, repeats, sizes, options.tiny)]
    if not options.tiny:
        name = "drift" if options.sets == list(SETS) else f"drift-{'-'.join(options.sets)}"
        results.write(name, "share of alarms", rows, seed=SEED, alpha=ALPHA)
    return rows


if __name__ == "__main__":
    main()
