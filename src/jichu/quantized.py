"""An exported graph in fewer bits, kept only where it loses no more than is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jichu.core.config import Spec, check
from jichu.core.errors import CheckFailed, UsageError, unknown
from jichu.core.progress import number, say
from jichu.graph_inputs import calibration
from jichu.models.ranges import seen
from jichu.runs import Run
from jichu.ship.onnx_model import OnnxModel
from jichu.ship.quantize import QUANTIZATIONS
from jichu.ship.quantize.base import Rows, prepared, quantize, scheme
from jichu.ship.quantize.sensitivity import ranked
from jichu.ship.scores import Compared, Held, compare

ALLOWED = 1.0  # points
AUTO = "auto"
_NAMED = 5  # layers that a refusal tells


def asked_for(given: str | dict[str, Any], allowed: float = ALLOWED) -> Spec:
    """A scheme by name, or {"name": …} with arguments. UsageError where it, or what may be lost, cannot be."""
    if not (math.isfinite(allowed) and allowed >= 0):
        raise UsageError(f"{allowed} points", where="--allow-loss", expected="a number, 0 or more")
    spec = check(Spec, {"name": given} if isinstance(given, str) else given, where="--quantize")
    if spec.name not in QUANTIZATIONS:
        raise unknown("quantization", spec.name, QUANTIZATIONS, where="--quantize")
    scheme(spec)
    return spec


def quantized(
    graph: Path,
    run: Run,
    data: Any,
    spec: Spec,
    held: Held,
    keep: Sequence[str] = (),
    allowed: float = ALLOWED,
) -> Compared:
    """Put a graph of a run into fewer bits, in its place. With "auto" in `keep` the layers that it hurts most stay as they
    are, one, two, four and so on, as many as it takes, and at most half of them. CheckFailed, with these layers, where
    more is lost; then the file is as it was."""
    rows = training_rows(run, data, graph)
    named = [name for name in keep if name != AUTO]
    to = graph.with_name(f"{graph.name}.{spec.name}")
    before = held.answers(graph)
    with prepared(graph, seen(run.model)) as given:
        say(f"{spec.name}: held beside float32 on {len(held.truth):,} held-out rows")

        def tried(kept: list[str]) -> Compared:
            quantize(given, spec, to, rows, kept)
            return compare(held, before, held.answers(to))

        found = tried(named)
        if found.lost.value > allowed:
            order = ranked(given, spec, rows, named)
            for count in _counts(len(order)) if AUTO in keep else ():
                found = tried([*named, *(layer for layer, _ in order[:count])])
                if found.lost.value <= allowed:
                    break
            else:
                raise _refused(spec, found, order, allowed, AUTO in keep)
        os.replace(to, graph)
        return found


def _counts(layers: int) -> Iterator[int]:
    """1, 2, 4 and so on, to half of them."""
    count = 1
    while count <= layers // 2:
        yield count
        count *= 2


def training_rows(run: Run, data: Any, graph: Path) -> Rows:
    """Rows of a run to see ranges of activations on, as one of its graphs takes them; of data that were given where its own
    are not kept."""
    dims = OnnxModel(graph).signature.inputs
    return lambda count: calibration(run, dims, data, count)


def _refused(
    spec: Spec, found: Compared, order: list[tuple[str, float]], allowed: float, auto: bool
) -> CheckFailed:
    """Why a graph is not kept, and what else there is."""
    worst = order[:_NAMED]
    told = ", ".join(f"{layer} ({loud:.0f} dB)" for layer, loud in worst)
    cures = "" if auto else f"--keep {worst[0][0]} …, --keep auto, or "
    return CheckFailed(
        f"{spec.name} loses {number(found.lost.value)} points of {found.metric} on {found.rows:,} held-out rows"
        f" ({number(found.before.value)}, then {number(found.after.value)}); it is not kept",
        where=f"layers that lose most: {told}",
        expected=f"{allowed:g} points at most; {cures}--allow-loss allows more",
    )
