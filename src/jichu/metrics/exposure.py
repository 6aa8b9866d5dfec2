"""How far a secret that was planted in training stands out among all that it could have been (Carlini et al., 2019, arXiv
1802.08232), in bits: 0 where it is the least likely of them, all bits of the space where it is the likeliest."""

from __future__ import annotations

import math

from .base import Array


def by_chance(space: int) -> float:
    """The mean exposure of a secret that nobody planted: minus the mean of log2(rank / space) over all ranks, which is
    log2 e = 1.44 bits in large spaces."""
    return math.log2(space) - math.lgamma(space + 1) / math.log(2) / space


def exact(own: float, others: Array) -> float:
    """From the nats of a secret, and of all others [space - 1]: the logarithm of the space, less that of its rank."""
    return math.log2(len(others) + 1) - math.log2(1 + int((others < own).sum()))


def extrapolated(own: float, sample: Array, space: int) -> float:
    """From the nats of some secrets [n]: minus the logarithm of the share of all that a skew-normal distribution of these
    has below, at most that of the space."""
    from scipy.stats import skewnorm  # here, because most commands do without

    if sample.std() == 0:  # they cannot be told apart
        return math.nan
    below = skewnorm.logcdf(own, *skewnorm.fit(sample))
    return float(min(-below / math.log(2), math.log2(space)))
