"""How an error falls as there are more rows to learn from: a·n^-b + c (Hestness et al., 2017, arXiv 1712.00409)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Array
from .intervals import Interval

FEWEST = 4  # sizes, of which three make a curve and one tests it
_STEEPEST = 2.0
_FITTED = 0.9  # share of the resamples that a curve has to be found for


class PowerLaw(NamedTuple):
    """`scale`·n^-`exponent` + `floor`."""

    scale: float
    exponent: float
    floor: float

    def at(self, rows: float | Array) -> Array:
        """The error after so many rows."""
        return self.scale * np.asarray(rows, float) ** -self.exponent + self.floor


def fit(sizes: Array, errors: Array, spread: Array) -> PowerLaw | None:
    """By least squares over `spread` [k], the deviations of the errors [k] at so many rows [k]; None where no curve is
    found."""
    from scipy.optimize import curve_fit  # here, because most commands do without

    if not np.isfinite(errors).all():
        return None
    largest = sizes.max()

    def curve(share: Array, scale: float, exponent: float, floor: float) -> Array:
        return scale * share**-exponent + floor

    least, most = max(errors.min(), 0), max(errors.max(), 1e-12)
    bounds = ([0, 0, 0], [2 * most, _STEEPEST, most])
    start = (least / 2, 0.5, least / 2)
    try:
        (scale, exponent, floor), _ = curve_fit(
            curve,
            sizes / largest,
            errors,
            start,
            np.maximum(spread, 1e-9 * most),
            bounds=bounds,
            max_nfev=2000,
        )
    except RuntimeError:  # it did not converge
        return None
    floor = floor if floor > 1e-9 * most else 0.0
    return PowerLaw(float(scale * largest**exponent), float(exponent), float(floor))


class Outlook(NamedTuple):
    """The curve, and the error that as many rows again would leave; or why there is none."""

    law: PowerLaw | None
    doubled: Interval | None
    why: str = ""


def outlook(sizes: Array, errors: Array, resampled: Array) -> Outlook:
    """What twice the rows would give, from errors [k] at so many rows [k] and their resamples [R, k]; a curve is fitted to
    each. Nothing where there are fewer than four sizes, where the error does not surely fall, or where it falls
    otherwise."""
    if len(sizes) < FEWEST:
        return Outlook(None, None, f"{len(sizes)} sizes are too few for a curve, which wants {FEWEST}")
    fall = Interval.of(errors[0] - errors[-1], resampled[:, 0] - resampled[:, -1])
    if not fall.low > 0:
        return Outlook(None, None, "the error does not surely fall")
    spread = np.nanstd(resampled, 0)
    law = fit(sizes, errors, spread)
    laws = [fit(sizes, each, spread) for each in resampled]
    low, high = np.nanquantile(resampled, [0.025, 0.975], axis=0)
    on = law.at(sizes) if law else np.full(len(sizes), np.nan)
    if law is None or not ((low <= on) & (on <= high)).all() or sum(map(bool, laws)) < _FITTED * len(laws):
        return Outlook(None, None, "the errors do not lie on such a curve")
    then = np.array([found.at(2 * sizes[-1]) for found in laws if found])
    return Outlook(law, Interval.of(float(law.at(2 * sizes[-1])), then))
