"""What a model's scores say of each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from .target import Target


def told(target: Target, scores: np.ndarray) -> list[dict[str, Any]]:
    """Of each row, from its scores [N, K]: of a class its label, the probability of it, and those of all classes; of tags
    those that are likely; of a number its value, and its quantiles where it has such."""
    if target.task == "classification":
        named = [dict(zip(target.classes, row, strict=True)) for row in scores.tolist()]
        return [
            {"label": (label := max(s, key=lambda c: s[c])), "score": s[label], "scores": s} for s in named
        ]
    if target.task == "multilabel":
        named = [dict(zip(target.classes, row, strict=True)) for row in scores.tolist()]
        return [{"tags": [t for t, p in s.items() if p > 0.5], "scores": s} for s in named]
    values = scores[:, target.point].tolist()
    if not target.quantiles:
        return [{"value": value} for value in values]
    quantiles = [{f"{q:g}": v for q, v in zip(target.quantiles, row, strict=True)} for row in scores.tolist()]
    return [{"value": v, "quantiles": q} for v, q in zip(values, quantiles, strict=True)]
