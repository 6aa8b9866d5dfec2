"""Which layers a scheme of quantization hurts most."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jichu.core.config import Spec
from jichu.core.progress import task

from ..export.base import Arrays
from ..onnx_model import ask, session
from .base import Prepared, Rows, quantize

_ROWS = 64  # that layers are compared on


def decibels(signal: np.ndarray, changed: np.ndarray) -> float:
    """The ratio of a signal to what was added to it, 10 log₁₀ Σ s² / Σ (s − c)²."""
    noise = float(np.square(signal - changed, dtype=np.float64).sum())
    return float("inf") if noise == 0 else 10 * np.log10(np.square(signal, dtype=np.float64).sum() / noise)


def ranked(given: Prepared, spec: Spec, rows: Rows, keep: Iterable[str] = ()) -> list[tuple[str, float]]:
    """(layer, decibels) of every layer with weights, what hurts most first: how far the answers stand above what changes in
    them where that layer alone is quantized. Layers in `keep` are left out."""
    kept = {f"{name}." for name in keep}
    layers = [
        layer for layer in dict.fromkeys(given.nodes.values()) if not any(f"{layer}.".startswith(k) for k in kept)
    ]  # fmt: skip
    batches = list(rows(_ROWS))
    expected = _answers(given.model, batches)
    found = []
    with tempfile.TemporaryDirectory() as folder, task("layers alone", len(layers)) as shown:
        for layer in layers:
            alone = Path(folder) / "alone.onnx"
            quantize(given, spec, alone, lambda most: rows(min(most, _ROWS)), only=layer)
            found.append((layer, decibels(expected, _answers(alone, batches))))
            shown.advance()
    return sorted(found, key=lambda pair: pair[1])


def _answers(graph: Path, batches: list[Arrays]) -> np.ndarray:
    opened = session(graph)
    return np.concatenate([v.ravel() for batch in batches for v in ask(opened, batch).values()])
