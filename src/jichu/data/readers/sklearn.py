"""Data that come with scikit-learn: `sklearn:digits` (1,797 images of 8×8 pixels) and small tables."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from jichu.core.errors import unknown

from ..source import Column, Names, Source, label_column

_PREFIX = "sklearn:"
NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes")


def recognises(data: Any) -> bool:
    """A name that begins with `sklearn:`."""
    return isinstance(data, str) and data.startswith(_PREFIX)


def read(path: str) -> Source:
    """Columns `image` [8, 8] uint8 or the table's numbers, and `label`."""
    name = str(path).removeprefix(_PREFIX)
    if name not in NAMES:
        raise unknown("data set", path, [_PREFIX + n for n in NAMES], where="data.path")
    found = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    if name == "digits":
        columns = {"image": Column("image", np.round(found.images * (255 / 16)).astype(np.uint8))}
    else:
        columns = {n: Column("number", found.data[:, i]) for i, n in enumerate(found.feature_names)}
    if name == "diabetes":
        columns["label"] = Column("number", found.target)
    else:
        codes = Column("category", found.target.astype(np.int64), tuple(map(str, found.target_names)))
        columns["label"] = label_column(found.target) if name == "digits" else codes
    return Source(columns, Names.numbered(name, len(found.target)))
