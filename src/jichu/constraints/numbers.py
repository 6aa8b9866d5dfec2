"""Numbers that keep rules: the nearest within their bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jichu.data import conditions

from .columns import Array, Columns
from .rule import Rule

_END = np.float32(np.inf)


def limits(rules: Sequence[Rule], columns: Columns) -> dict[str, tuple[Array, Array]]:
    """The least and the largest number that each target may be, [N] or alone, by what rules say of these columns."""
    found: dict[str, tuple[Array, Array]] = {}
    for rule, (key, column, sign, operand) in [(r, bound) for r in rules for bound in r.bounds]:
        other, there = conditions.side(columns[column], column, operand, columns, rule.name)
        binding, value = rule.applies(columns).yes & there, np.asarray(other, np.float32)
        low = {">=": value, ">": np.nextafter(value, _END), "==": value}.get(sign, -_END)
        high = {"<=": value, "<": np.nextafter(value, -_END), "==": value}.get(sign, _END)
        before = found.get(key, (-_END, _END))
        found[key] = (
            np.maximum(before[0], np.where(binding, low, -_END)),
            np.minimum(before[1], np.where(binding, high, _END)),
        )
    return found


def nearest(values: Array, low: Array, high: Array) -> Array:
    """Numbers [N, Q] within limits [N], where there are any such. What keeps them in the exactness that is compared stays
    as it is, bit for bit."""
    clipped = np.clip(values, np.reshape(low, (-1, 1)), np.reshape(high, (-1, 1)))
    with np.errstate(over="ignore"):
        outside = values.astype(np.float32) != clipped.astype(np.float32)
    return np.where(np.reshape(low <= high, (-1, 1)) & outside, clipped, values)
