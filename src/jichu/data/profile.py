"""What a column holds, in figures that are ready for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from .schema import Schema
from .source import Column, distinct

_BINS, _TOP = 20, 12


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
        if target.column == name:
            return f"target, {target.task}" if i == 0 else f"target {i + 1}, {target.task}"
    for role in ("weight", "group", "time", "split"):
        if getattr(schema, role) == name and role != "time":
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
    if column.kind == "text":
        known = [v for v in values if v is not None]
        words = np.mean([len(v.split()) for v in known]) if known else 0.0
        return {"missing": len(values) - len(known), "distinct": len(set(known)), "words": float(words)}
    return {}


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
