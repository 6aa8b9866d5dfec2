"""Images that come with scikit-learn: `sklearn:digits`, 1,797 handwritten digits of 8×8 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from jichu.core.errors import unknown

from ..source import Column, Source, label_column

_PREFIX = "sklearn:"


def recognises(data: Any) -> bool:
    """A name that begins with `sklearn:`."""
    return isinstance(data, str) and data.startswith(_PREFIX)


def read(path: str) -> Source:
    """Columns `image` [8, 8] uint8 and `label`."""
    if path != _PREFIX + "digits":
        raise unknown("data set", path, [_PREFIX + "digits"], where="data.path")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = [f"digits:{i}" for i in range(len(images))]
    columns = {"image": Column("image", images), "label": label_column(digits.target)}
    return Source(columns, names)
