"""Rows of a run's data on a plane, where like lies beside like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from jichu.auditing.parts.embeddings import layout
from jichu.core.errors import UsageError
from jichu.data.splits import evenly
from jichu.metrics.similarity import nearest

from .examples import address, sprites, truths
from .seen import Seen

_NEAR = 5  # points that say where another input is placed
_LANDMARKS = 500  # rows whose places are sought, which takes a time that grows faster than they do
_MOST = 5000


@dataclass(frozen=True)
class Map:
    """Rows [n] of the data at places [n, 2] from 0 to 1, with what is known and said of them by target column; of
    pictures a sheet of thumbnails as a WebP file, so many in a row and so many pixels a side."""

    rows: np.ndarray
    places: np.ndarray
    truth: list[dict[str, Any]]
    prediction: list[dict[str, Any]]
    features: np.ndarray
    sheet: tuple[bytes, int, int] | None = None

    def place(self, features: np.ndarray) -> np.ndarray:
        """Where other features [Q, D] would lie, [Q, 2]: at the mean place of the five rows that are nearest by the
        cosine, each counted by the inverse of its distance. What is as a row of the map lies on it. The map itself
        stays as it is, so that this is a guess: what is like none of the rows is placed among them all the same."""
        return placed(self.features, self.places, features)

    def plain(self) -> dict[str, Any]:
        """Ready for JSON, a list for each thing that is told of the rows."""
        told: dict[str, Any] = {
            "rows": self.rows.tolist(), "x": self.places[:, 0].round(4).tolist(), "y": self.places[:, 1].round(4).tolist(),
            "truth": _columns(self.truth), "prediction": _columns([_short(row) for row in self.prediction]),
        }  # fmt: skip
        if self.sheet is not None:
            encoded, across, side = self.sheet
            told["sprites"] = {"image": address(encoded, "image/webp"), "across": across, "side": side}
        return told


def _short(row: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of what is said the class, the tags or the number alone."""
    return {c: next(said[k] for k in ("label", "tags", "value") if k in said) for c, said in row.items()}


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def placed(known: np.ndarray, places: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Places [Q, 2] of features [Q, D] among rows known [n, D] that have places [n, 2]."""
    at, far = nearest(known, features, _NEAR)
    weights = 1 / np.maximum(far, 1e-9)
    return (weights[..., None] * places[at]).sum(1) / weights.sum(1, keepdims=True)


def laid(features: np.ndarray, seed: int) -> np.ndarray:
    """Places [n, 2] of features [n, D]: t-SNE of 500 of them, evenly spread, and the others among those."""
    if len(features) == 1:
        return np.full((1, 2), 0.5)
    some = evenly(torch.arange(len(features)), _LANDMARKS).numpy()
    with threadpool_limits(1):  # else what is added first, and so the whole map, is left to chance
        fixed = layout(features[some], seed)
    found = placed(features[some], fixed, features)
    found[some] = fixed
    return found


def map_of(seen: Seen, part: str = "test", most: int = 2000, seed: int = 0) -> Map:
    """A map of held-out (`test`) or training rows (`train`), of more than `most` an even sample: t-SNE of the
    features' principal components (van der Maaten and Hinton, 2008) for 500 of them, the others placed among those;
    found once and kept."""
    if part not in ("test", "train"):
        raise UsageError(f"no part {part!r}", expected="test or train")
    if not 1 <= most <= _MOST:
        raise UsageError(f"a map of {most} rows", where="most", expected=f"from 1 to {_MOST:,}")
    key = part, most, seed
    if key not in seen.maps:
        seen.maps[key] = _made(seen, part, most, seed)
    return seen.maps[key]


def _made(seen: Seen, part: str, most: int, seed: int) -> Map:
    rows = seen.rows(part)
    some = evenly(torch.arange(len(rows)), most).numpy()
    mine, features = rows[some], seen.features(part)[some]

    def find(_: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"": torch.from_numpy(laid(features, seed).astype(np.float32))}

    places = seen.kept(f"map-{most}-{seed}", part, find)[""].numpy()
    scores = (
        {key: found[some] for key, found in seen.scores(part).items()}
        if part == "test" and seen.has_head
        else None
    )
    pictured = seen.dataset.preprocess is not None
    return Map(
        mine.numpy(), places, truths(seen.dataset, mine), seen.told(mine, scores), features,
        sprites(seen.dataset.pictures(mine)) if pictured else None,
    )  # fmt: skip
