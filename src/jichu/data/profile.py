"""What a column holds, in figures that are ready for JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .language import language, scripts
from .large_tables import LARGE
from .schema import Schema
from .source import Column, distinct
from .types import words

_BINS, _TOP = 20, 12
_LOOKED_AT, _BEGINNING = 1000, 5000  # texts whose language is told, and characters of each
_TRACE = 0.001  # share of the letters below which a script is not told
_EXAMPLES, _SHOWN = 6, 300  # texts that are shown, and characters of each


def describe(columns: dict[str, Column], schema: Schema) -> list[dict[str, Any]]:
    """A dict for each column: name, type, role, missing cells, different values, and by type a histogram
    (numbers, times) or the most frequent values."""
    return [
        {"name": name, "type": column.kind, "role": _role(name, schema), "note": _note(name, column, schema)}
        | _figures(column)
        for name, column in columns.items()
    ]


def _role(name: str, schema: Schema) -> str:
    for i, target in enumerate(schema.targets):
        if name in target.series:
            return "target, forecast"
        if target.column == name:
            return f"target, {target.task}" if i == 0 else f"target {i + 1}, {target.task}"
    if name in schema.texts:
        return "input, conversations" if schema.chat else "input, text"
    if any(kept.name == name for kept in schema.aside):
        return "kept aside"
    for role in ("weight", "group", "time", "split"):
        if getattr(schema, role) == name and (role != "time" or any(t.steps for t in schema.targets)):
            return role
    return "not used" if name in schema.unused else "input"


def _note(name: str, column: Column, schema: Schema) -> str:
    return "; ".join(dict.fromkeys(filter(None, [schema.unused.get(name), column.note])))


def _figures(column: Column) -> dict[str, Any]:
    values = column.values
    if column.kind == "number":
        return _spread(values[~np.isnan(values)], len(values))
    if column.kind == "timestamp":
        known = values[~np.isnat(values)]
        found = _spread(known.astype(np.int64).astype(np.float64), len(values))
        ends = {"low": str(known.min()), "high": str(known.max())} if len(known) else {}
        return {k: v for k, v in found.items() if k not in ("mean", "std", "median")} | ends
    if column.kind == "category":
        counts = np.bincount(values[values >= 0], minlength=len(column.classes))
        return {"missing": int((values < 0).sum()), "distinct": int((counts > 0).sum())} | _top(
            counts, column
        )
    if column.kind == "tags":
        known = ~np.isnan(values).any(1)
        return {"missing": int((~known).sum()), "distinct": len(column.classes)} | _top(
            values[known].sum(0).astype(int), column
        )
    if column.kind in ("text", "chat"):
        return _of_texts(values)
    return {}


def _of_texts(cells: pa.Array | pa.ChunkedArray) -> dict[str, Any]:
    """Characters, bytes, and quartiles and histogram of the lengths; of some texts, evenly spaced, how many
    words they have, their scripts and languages, and how the first of them begin."""
    lengths = np.asarray(pc.utf8_length(cells).fill_null(0))
    known = lengths[lengths > 0]
    found: dict[str, Any] = {"missing": len(lengths) - len(known)}
    if cells.nbytes < LARGE:
        found["distinct"] = pc.count_distinct(cells).as_py()
    if not len(known):
        return found
    rows = np.flatnonzero(lengths > 0)[:: max(1, len(known) // _LOOKED_AT)]
    some = [cells[row].as_py()[:_BEGINNING] for row in rows.tolist()]
    letters: Counter[str] = Counter()
    for text in some:
        letters.update(scripts(text))
    edges = np.unique(np.geomspace(known.min(), known.max() + 1, _BINS + 1).round().astype(int))
    counts, edges = np.histogram(known, bins=edges if len(edges) > 1 else [edges[0], edges[0] + 1])
    return found | {
        "characters": int(known.sum()),
        "bytes": int(pc.sum(pc.binary_length(cells)).as_py()),
        "lengths": [int(v) for v in np.quantile(known, [0, 0.25, 0.5, 0.75, 1], method="nearest")],
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
        "looked_at": len(some),
        "words": words(pa.array(some, pa.large_string())),
        "scripts": {
            name: n / letters.total()
            for name, n in letters.most_common(_TOP)
            if n >= _TRACE * letters.total()
        },
        "languages": dict(Counter(map(language, some)).most_common(_TOP)),
        "examples": [text[:_SHOWN] for text in some[:: max(1, len(some) // _EXAMPLES)][:_EXAMPLES]],
    }


def _spread(known: np.ndarray, rows: int) -> dict[str, Any]:
    found: dict[str, Any] = {"missing": rows - len(known), "distinct": distinct(known)}
    if len(known):
        low, high = known.min(), known.max()
        # edges of our own: NumPy refuses a range of fewer floats than bins
        room = 0.0 if low < high else max(0.5, 1e-6 * abs(low))
        counts, edges = np.histogram(known, bins=np.linspace(low - room, high + room, _BINS + 1))
        found |= {"low": float(low), "high": float(high), "median": float(np.median(known)),
                  "mean": float(known.mean()), "std": float(known.std()),
                  "histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}  # fmt: skip
    return found


def _top(counts: np.ndarray, column: Column) -> dict[str, Any]:
    order = np.argsort(-counts, kind="stable")[:_TOP]
    return {"top": [[column.classes[i], int(counts[i])] for i in order if counts[i]]}
