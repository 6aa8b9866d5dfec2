"""Whether like finds like among the features of each model, and a map of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table
from jichu.core.progress import say
from jichu.core.words import named, words
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.metrics.similarity import normalised, retrieval, verification
from jichu.train.predict import embed

from .base import Look, Part, Subject

_MOST, _MAPPED = 5000, 250  # held-out rows that are looked at, and that stand on the map
_MAP_PIXELS = 32


class Embeddings(Part):
    """Retrieval and verification by the features, and where some rows lie: {"models": {stage: {metric: interval}}, "map":
    {"of": stage, "rows", "x", "y"}}; the map is of the run's result, or of the first stage where that has no network."""

    title = "Like finds like"
    each_target = False

    def measure(self, subject: Subject) -> dict[str, Any]:
        target, seed = subject.target, subject.seed
        rows, classes = evenly(subject.rows, _MOST), None
        of_classes = target is not None and target.task == "classification"
        if of_classes and len(labelled := subject.sample(_MOST)):
            rows, classes = labelled, subject.truth(labelled)
        found: dict[str, Any] = {"rows": len(rows), "models": {}, "map": None}
        for name in subject.stages:
            features = _features(name, rows, subject)
            if features is None:
                continue
            if classes is not None:
                both = retrieval(features, classes, seed=seed) | verification(features, classes, seed=seed)
                found["models"][name] = {key: interval._asdict() for key, interval in both.items()}
            if found["map"] is None and len(rows) > 3:
                some = np.unique(np.linspace(0, len(rows) - 1, min(_MAPPED, len(rows))).astype(int))
                x, y = layout(features[some], seed).T.tolist()
                found["map"] = {"of": name, "rows": rows[some].tolist(), "x": x, "y": y}
        return found

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models = found["models"]
        names = list(dict.fromkeys(name for model in models.values() for name in model))
        if names:
            rows = [[stage, *(model.get(name) for name in names)] for stage, model in models.items()]
            yield Table([words("features of"), *map(named, names)], rows)
            yield Note(
                words(
                    "Each of {rows:,} held-out rows asks for rows of its class among all others, by the cosine of the features;"
                    " pairs are of one class or of two.", rows=found["rows"],
                )
            )  # fmt: skip
        if not models and not found["map"]:
            yield Note(words("No model here has a network, whose features could be looked at."))
        if found["map"] and look.records:
            yield Note(
                words(
                    "A map of the features of {stage} (t-SNE): what lies together is alike to the model; frames are coloured by"
                    " class.", stage=found["map"]["of"],
                )
            )  # fmt: skip
            yield Figure(_map(found["map"], target, look))


def _map(places: dict[str, Any], target: Target | None, look: Look) -> str:
    assert look.records is not None
    rows = torch.tensor(places["rows"])
    names, kinds = look.records(rows)
    classes = target.classes if target and target.task == "classification" else ()
    told = [
        f"{name}: {classes[k]}" if classes and k >= 0 else name for name, k in zip(names, kinds, strict=True)
    ]
    pictures = (
        None if look.pictures is None else [figures.thumbnail(p, _MAP_PIXELS) for p in look.pictures(rows)]
    )
    kinds = kinds if classes else [-1] * len(names)
    return figures.embedding_map(places["x"], places["y"], told, kinds, pictures)


def _features(stage: str, rows: Tensor, subject: Subject) -> np.ndarray | None:
    """[N, D] of a stage's model; None where it has no network."""
    model = subject.load(stage)
    if not any(True for _ in model.backbone.parameters()):
        return None
    say(f"  features of {stage}")
    found = embed(model, subject.dataset.inputs, rows)
    return None if found.is_sparse else found.numpy()


def layout(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Places [N, 2] from 0 to 1 at which like rows lie together (t-SNE: van der Maaten and Hinton, 2008, of the first
    fifty principal components of features of length 1), half way between that and their order in each direction, so
    that crowds have room."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    unit = normalised(features)
    most = min(50, *unit.shape)
    small = PCA(most, random_state=seed).fit_transform(unit)
    if len(unit) < 5:
        found = small[:, :2] if most > 1 else np.repeat(small, 2, 1)
    else:
        perplexity = min(30.0, (len(unit) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(small)
    low, high = found.min(0), found.max(0)
    place = (found - low) / np.maximum(high - low, 1e-12)
    order = found.argsort(0, kind="stable").argsort(0, kind="stable") / max(1, len(found) - 1)
    return (place + order) / 2
