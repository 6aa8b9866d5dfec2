"""Rows of the logs held beside rows of the reference: every column a test, and one level for all of them together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jichu.data.source import Column
from jichu.metrics import drift
from jichu.metrics.paired import holm

from . import cells
from .cells import Cells

_LEAST = 999  # permutations
_FEATURES = 1000  # rows of either side whose features are compared
_LINES = 4  # columns that are followed in time
_HOURS, _WINDOWS, _ENOUGH = (1, 6, 24, 168), 48, 50  # of a window, how many at most, and rows in most of them


@dataclass
class Pair:
    """A column of the reference and the same of the logs. `group` is inputs or predictions."""

    name: str
    group: str
    reference: Column
    logs: Column


@dataclass
class Sides:
    """All that is compared: columns, features [N, D] and [M, D], and when each row of the logs came."""

    pairs: list[Pair]
    features: tuple[np.ndarray, np.ndarray] | None = None
    times: np.ndarray | None = None  # datetime64


def compare(sides: Sides, alpha: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """The tests, most telling first, and which of them are an alarm: with a chance of at most `alpha` there is any where
    nothing has changed, by Holm's correction over all."""
    rng = np.random.default_rng(seed)
    known = [(pair, cells.of(pair.reference, pair.logs)) for pair in sides.pairs]
    known = [(pair, of) for pair, of in known if of.counts()[0].any() and len(of.logs)]
    gaps = [(pair, of.missing()) for pair, of in known if of.missing()[:, 1].any()]
    made = [(pair, of) for pair, of in known if of.counts()[1].any()]
    count = len(made) + len(gaps) + (sides.features is not None)
    draws = max(_LEAST, math.ceil(2 * count / alpha))
    tests = [_of_column(pair, of, draws, rng) for pair, of in made]
    tests += [_of_gaps(pair, counts, draws, rng) for pair, counts in gaps]
    if sides.features is not None:
        tests.append(_of_features(*sides.features, draws, rng))
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test |= {"p_holm": p, "alarm": p <= alpha}
    tests.sort(key=lambda test: (test["p_holm"], -test["distance"]["value"]))
    alarms = [test["name"] for test in tests if test["alarm"]]
    moved = {test["name"] for test in tests if test["alarm"] and test["test"] != "missing"}
    return {
        "alpha": alpha, "draws": draws, "alarm": bool(alarms), "alarms": alarms, "tests": tests,
        "seen": _seen(tests, alpha), "windows": _windows(sides, moved, made),
    }  # fmt: skip


_STATISTICS: dict[str, tuple[str, drift.Statistic, drift.Statistic]] = {  # of the test, and of the distance
    "number": ("Kolmogorov-Smirnov", drift.kolmogorov_smirnov, drift.kolmogorov_smirnov),
    "category": ("chi-square", drift.chi_square, drift.total_variation),
}


def _of_column(pair: Pair, of: Cells, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    name, statistic, distance = _STATISTICS[of.kind]
    index = cells.of_index(pair.reference, pair.logs, of)
    return {
        **_counted(pair.name, pair.group, name, of.counts(), statistic, distance, draws, rng),
        "psi": drift.interval(index.counts(), drift.psi, rng)._asdict(),
        "new": of.new, "drawn": cells.drawn(pair.reference, pair.logs, of),
    }  # fmt: skip


def _of_gaps(pair: Pair, counts: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Whether cells are missing as often."""
    found = _counted(
        pair.name, pair.group, "missing", counts, drift.chi_square, drift.total_variation, draws, rng
    )
    return {**found, "missing": (counts[:, 1] / counts.sum(1)).tolist()}


def _counted(
    name: str, group: str, test: str, counts: np.ndarray, statistic: drift.Statistic, distance: drift.Statistic,
    draws: int, rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name, "group": group, "test": test, "rows": counts.sum(1).tolist(),
        "distance": drift.interval(counts, distance, rng)._asdict(),
        "p": drift.by_chance(counts, statistic, draws, rng),
    }  # fmt: skip


def _of_features(one: np.ndarray, two: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    mine, theirs = (
        part if len(part) <= _FEATURES else rng.permutation(part)[:_FEATURES] for part in (one, two)
    )
    found = drift.energy(mine, theirs, draws, rng)
    return {
        "name": "features", "group": "features", "test": "energy", "rows": [len(mine), len(theirs)],
        "distance": found.distance._asdict(), "p": found.p,
    }  # fmt: skip


def _seen(tests: list[dict[str, Any]], alpha: float) -> float:
    """The change of a share that would be found in most columns, with so many rows and tests."""
    rows = [test["rows"] for test in tests if test["group"] != "features"]
    if not rows:
        return math.nan
    reference, logs = (int(np.median(side)) for side in zip(*rows, strict=True))
    return drift.smallest_seen(reference, logs, alpha / len(tests))


def _windows(sides: Sides, alarms: set[str], made: list[tuple[Pair, Cells]]) -> list[dict[str, Any]]:
    """How far each column that is an alarm, or else each prediction, was from the reference in each stretch of time."""
    if sides.times is None or not len(sides.times):
        return []
    starts = _starts(sides.times)
    known = [(pair, of) for pair, of in made if len(of.logs) == len(starts)]
    wanted = [(pair, of) for pair, of in known if pair.name in alarms]
    wanted = wanted or [(pair, of) for pair, of in known if pair.group == "predictions"]
    found = []
    for start in np.unique(starts)[-_WINDOWS:]:
        rows = np.flatnonzero(starts == start)
        told = {}
        for pair, of in wanted[:_LINES]:
            counts = of.counts(rows).astype(np.float64)
            told[pair.name] = float(_STATISTICS[of.kind][2](counts)) if counts[1].any() else None
        found.append({"from": str(start), "rows": len(rows), "distance": told})
    return found


def _starts(times: np.ndarray) -> np.ndarray:
    """When the window of each row began: the shortest in which there are rows enough, if these are not too many."""
    hours = times.astype("datetime64[h]").astype(np.int64)
    found = hours
    for length in _HOURS:
        starts = hours // length * length
        windows, counts = np.unique(starts, return_counts=True)
        if len(windows) > 1 or length == _HOURS[0]:
            found = starts
        if len(windows) <= _WINDOWS and np.median(counts) >= _ENOUGH:
            break
    return found.astype("datetime64[h]")
