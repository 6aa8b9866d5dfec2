"""Whether what was written says the same as the model, and if not, from where on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jichu.core.errors import CheckFailed

from .base import Arrays, Runtime, Subject
from .program import reference, spread, unit, watched


@dataclass(frozen=True)
class Proof:
    """On how many real rows an export was run, and the largest difference of any of its outputs there: of probabilities
    as they are, of numbers in deviations of the target, of scores and features in deviations of their own."""

    rows: int
    difference: float
    tolerance: float


def check(subject: Subject, runtime: Runtime, tolerance: float) -> Proof:
    """Run both on the subject's batches. CheckFailed, naming the first layer that differs, where a difference is over the
    tolerance."""
    rows, worst = 0, 0.0
    for batch in subject.batches:
        ours, theirs = reference(subject, batch), runtime(batch)
        for name, values in ours.items():
            found = difference(values, theirs.get(name), unit(subject.config.targets.get(name), values))
            if not found <= tolerance:
                raise _failed(subject, runtime, batch, name, found, tolerance)
            worst = max(worst, found)
        rows += len(next(iter(batch.values())))
    return Proof(rows, worst, tolerance)


def difference(ours: np.ndarray, theirs: np.ndarray | None, units: Any) -> float:
    """The largest in these units; infinite where shapes differ, or one is finite and the other not."""
    if theirs is None or ours.shape != theirs.shape:
        return np.inf
    if not ours.size:
        return 0.0
    finite = np.isfinite(ours)
    if (finite != np.isfinite(theirs)).any():
        return np.inf
    apart = np.abs(np.where(finite, ours, 0).astype(np.float64) - np.where(finite, theirs, 0))
    return float((apart / np.asarray(units)).max())


def first_differing(ours: Arrays, theirs: Arrays, tolerance: float) -> tuple[str, float] | None:
    """The first layer, in the order in which they were run, over the tolerance, and by how much; None where those that can
    be compared agree."""
    for name, values in ours.items():
        if name in theirs and theirs[name].shape == values.shape:
            found = difference(values, theirs[name], spread(values))
            if not found <= tolerance:
                return name, found
    return None


def _failed(
    subject: Subject, runtime: Runtime, batch: Any, output: str, found: float, tolerance: float
) -> CheckFailed:
    ours = watched(subject.model, lambda: subject.model(batch))
    layer = first_differing(ours, runtime.layers(batch), tolerance)
    told = f"layer {layer[0]}, by {layer[1]:.2g}" if layer else "after all the layers that can be compared"
    return CheckFailed(
        f"what was written gives another {output} than the model: they differ by {found:.2g}; it is not kept",
        where=f"first {told}",
        expected=f"{tolerance:g} at most; --tolerance allows more",
    )
