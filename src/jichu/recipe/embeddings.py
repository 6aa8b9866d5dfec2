"""What an audit says of the features of each model: whether like finds like, and a map of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from jichu.core.progress import say
from jichu.data.schema import LABEL
from jichu.metrics.similarity import normalised, retrieval, verification
from jichu.models import folder as model_folder
from jichu.train.predict import embed

from .build import Work
from .config import ModelStage

_MOST, _MAPPED = 5000, 250  # held-out rows that are looked at, and that stand on the map


def measured(work: Work) -> dict[str, Any]:
    """{"models": {stage: {metric: interval}}, "map": {"of": stage, "rows", "x", "y"}} of held-out rows; the map is of
    the run's result, or of the first stage where that has no network."""
    dataset, target = work.dataset, work.dataset.targets.get(LABEL)
    rows = held_out(work)
    stages = [s.name for s in work.recipe.stages if isinstance(s, ModelStage)]
    classes = dataset.tensors[LABEL][rows].numpy() if target and target.task == "classification" else None
    found: dict[str, Any] = {"models": {}, "map": None}
    for name in sorted(stages, key=lambda stage: stage != work.recipe.chosen):
        features = _features(name, rows, work)
        if features is None:
            continue
        if classes is not None:
            seed = work.recipe.seed
            both = retrieval(features, classes, seed=seed) | verification(features, classes, seed=seed)
            found["models"][name] = {key: interval._asdict() for key, interval in both.items()}
        if found["map"] is None and len(rows) > 3:
            some = np.unique(np.linspace(0, len(rows) - 1, min(_MAPPED, len(rows))).astype(int))
            places = layout(features[some], work.recipe.seed)
            found["map"] = {
                "of": name,
                "rows": rows[some].tolist(),
                "x": places[:, 0].tolist(),
                "y": places[:, 1].tolist(),
            }
    found["models"] = {name: found["models"][name] for name in stages if name in found["models"]}
    return found


def held_out(work: Work) -> Tensor:
    """The labelled test rows, evenly fewer where there are many."""
    dataset = work.dataset
    rows = dataset.labelled("test") if dataset.targets else dataset.splits["test"]
    return rows[:: max(1, -(-len(rows) // _MOST))]


def _features(stage: str, rows: Tensor, work: Work) -> np.ndarray | None:
    """[N, D] of a stage's model; None where it has no network."""
    model, _ = model_folder.load(work.folder.stage_model(stage), work.own_backbone())
    if not any(True for _ in model.backbone.parameters()):
        return None
    say(f"  features of {stage}")
    found = embed(model, work.inputs, rows)
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
