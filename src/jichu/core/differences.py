"""What differs between trees of values, as recipes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def differences(trees: Sequence[Any], path: str = "") -> list[tuple[str, list[Any]]]:
    """The keys, `stages.0.budget`, whose values are not the same in all trees, and the value in each; None where there is
    none. Lists of the same length are compared item by item."""
    if all(isinstance(tree, dict) for tree in trees):
        keys = list(dict.fromkeys(key for tree in trees for key in tree))
        inside = [(key, [tree.get(key) for tree in trees]) for key in keys]
    elif all(isinstance(tree, list) for tree in trees) and len({len(tree) for tree in trees}) == 1:
        inside = [(i, list(items)) for i, items in enumerate(zip(*trees, strict=True))]
    else:
        return [] if all(tree == trees[0] for tree in trees) else [(path, list(trees))]
    return [found for key, values in inside for found in differences(values, f"{path}.{key}".lstrip("."))]
