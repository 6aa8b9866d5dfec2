"""How far forecasts are from what came, truth and scores [N, steps × columns], NaN where nothing is known.

Each column is in units of its deviation over the training rows, so that columns of any units count alike.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .base import Array, MeanOf, mean_of_defined


@partial(MeanOf, tasks=("forecast",), lower_is_better=True)
def scaled_mse(truth: Array, scores: Array) -> Array:
    """The squared error, the mean over the steps and columns of a window."""
    return mean_of_defined(np.square(scores.astype(np.float64) - truth))


@partial(MeanOf, tasks=("forecast",), lower_is_better=True)
def scaled_mae(truth: Array, scores: Array) -> Array:
    """The absolute error, the mean over the steps and columns of a window."""
    return mean_of_defined(np.abs(scores.astype(np.float64) - truth))
