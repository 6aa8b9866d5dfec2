"""Joint embedding: several random views of each row, embedded by one network and a projector."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.data.augment import Augment
from jichu.metrics.representation import alignment, effective_rank, uniformity

from .base import PRETRAINING, Batch, Context, Losses, Objective

Width = Annotated[int, Field(ge=2)]
VIEWS = "views."
# Seen on digits: healthy runs have a rank share above 0.2 and a spread near 1; runs without a variance
# term a spread near 0.1, and without normalisation layers a rank share of 0.025 besides.
COLLAPSED_RANK, COLLAPSED_SPREAD = 0.04, 0.25


def mlp(before: int, hidden: int, after: int, layers: int) -> nn.Sequential:
    """Linear layers with batch statistics and ReLU between them."""
    parts: list[nn.Module] = []
    for _ in range(layers - 1):
        parts += [nn.Linear(before, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
        before = hidden
    return nn.Sequential(*parts, nn.Linear(before, after))


def pooled_width(model: nn.Module, batch: Batch) -> int:
    """Width of the features that a model gives for a batch."""
    training = model.training
    with torch.no_grad():
        width = model.eval()(batch)["features"].pooled.shape[1]
    model.train(training)
    return width


class JointEmbedding(Objective):
    """Makes the views and embeds them; a subclass says in `compare` what is wanted of embeddings [B, V, D]."""

    independent = False
    cached = True
    task = PRETRAINING
    kinds = ("image", "audio", "table")
    against_collapse = "lower optimizer.lr"  # what may help, in words

    def __init__(self, augment: Augment, views: int, width: int, hidden: int):
        super().__init__()
        self.augment, self.views, self.width, self.hidden = augment, views, width, hidden
        self.projector: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        self.projector = self.head(pooled_width(model, batch)).to(batch["row"].device)

    def head(self, features: int) -> nn.Module:
        """The projector, from the backbone's features [B, F] to embeddings [B, D]."""
        return mlp(features, self.hidden, self.width, layers=3)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        return {**batch, **views(self.augment, batch, context, self.views, "view")}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """features [B, V, F] and embeddings [B, V, D]."""
        features, embeddings = embed(model, self.projector, batch)
        return {"features": features, "embeddings": embeddings}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Losses:
        device = outputs["embeddings"].device
        with torch.autocast(device.type, enabled=False):  # small products, whose small differences count
            return self.compare({name: tensor.float() for name, tensor in outputs.items()}, batch)

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> Losses:
        """The losses, from outputs in float32."""
        raise NotImplementedError(f"{type(self).__name__}.compare")

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Of one view: effective rank of the backbone's features, also as a share of the possible, and the
        spread of the embeddings (deviation over size). Of two: their alignment and uniformity."""
        features, embeddings = outputs["features"][:, 0].float(), outputs["embeddings"].float()
        one, two = embeddings[:, 0], embeddings[:, 1]
        rank, most = effective_rank(features), min(features.shape[0] - 1, features.shape[1])
        return {
            "effective_rank": rank,
            "rank_share": rank / max(1, most),
            "spread": one.std(0).mean() / one.square().mean().sqrt().clamp(min=1e-12),
            "alignment": alignment(one, two),
            "uniformity": uniformity(one),
        }


def views(
    augment: Augment, batch: Batch, context: Context, count: int, salt: str, prefix: str = VIEWS
) -> Batch:
    """What augmentation makes of each column that it changes, `count` times: [B, V, ...] under `prefix`."""
    rows = batch["row"]
    made = [augment.columns(batch, context.for_rows(rows, f"{salt}{v}.")) for v in range(count)]
    return {prefix + name: torch.stack([view[name] for view in made], dim=1) for name in made[0]}


def embed(model: nn.Module, projector: nn.Module, batch: Batch, prefix: str = VIEWS) -> tuple[Tensor, Tensor]:
    """Features [B, V, F] and embeddings [B, V, D] of the views under `prefix`."""
    made = {name.removeprefix(prefix): seen for name, seen in batch.items() if name.startswith(prefix)}
    shape = next(iter(made.values())).shape[:2]
    seen = {name: view.flatten(0, 1) for name, view in made.items()}
    features = model({**batch, **seen})["features"].pooled
    return features.unflatten(0, shape), projector(features).unflatten(0, shape)


def collapse(row: dict[str, Any], remedy: str = JointEmbedding.against_collapse) -> str | None:
    """In words, what a logged row says about collapse; None where all is well."""
    rank, share, spread = (row.get(key) for key in ("effective_rank", "rank_share", "spread"))
    if rank is None or share is None or spread is None:
        return None
    if spread < COLLAPSED_SPREAD:
        return (
            f"collapsed: all rows get nearly the same embedding (they differ by {spread:.1%} of its size)."
            f" Likely cause: equal views are rewarded more than different rows; {remedy}"
        )
    if share < COLLAPSED_RANK:
        return (
            f"collapsed: features vary along {rank:.1f} directions only ({share:.1%} of the possible)."
            " Likely cause: augmentation so strong that only one trait survives it, or rows that are nearly"
            f" all alike; or {remedy}"
        )
    return None
