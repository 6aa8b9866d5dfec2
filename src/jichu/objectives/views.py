"""Joint embedding: several random views of each row, embedded by one network and a projector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jichu.data.augment import Augment
from jichu.metrics.representation import effective_rank

from .base import PRETRAINING, Batch, Context, Objective

_VIEWS = "views"
# Seen on digits: healthy runs have a rank share above 0.2 and a spread near 1; runs without a variance
# term a spread near 0.1, and without normalisation layers a rank share of 0.025 besides.
COLLAPSED_RANK, COLLAPSED_SPREAD = 0.04, 0.25


class JointEmbedding(Objective):
    """Makes the views and embeds them; a subclass says what is wanted of embeddings [B, V, D]."""

    independent = False
    task = PRETRAINING

    def __init__(self, augment: Augment, views: int, width: int, hidden: int):
        super().__init__()
        self.augment, self.views, self.width, self.hidden = augment, views, width, hidden
        self.projector: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        with torch.no_grad():
            training = model.training
            pooled = model.eval()(batch)["features"].pooled
            model.train(training)
        layers: list[nn.Module] = []
        before = pooled.shape[1]
        for after in (self.hidden, self.hidden):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
            before = after
        self.projector = nn.Sequential(*layers, nn.Linear(before, self.width)).to(pooled.device)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        rows = batch["row"]
        views = [self.augment(batch["image"], context.for_rows(rows, f"view{v}.")) for v in range(self.views)]
        return {**batch, _VIEWS: torch.stack(views, dim=1)}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """features [B, V, F] and embeddings [B, V, D]."""
        views = batch[_VIEWS]
        features = model({**batch, "image": views.flatten(0, 1)})["features"].pooled
        shape = views.shape[:2]
        return {
            "features": features.unflatten(0, shape),
            "embeddings": self.projector(features).unflatten(0, shape),
        }

    def diagnose(self, outputs: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Of one view: effective rank of the backbone's features, also as a share of the possible, and the
        spread of the embeddings (deviation over size)."""
        features = outputs["features"][:, 0].float()
        embeddings = outputs["embeddings"][:, 0].float()
        rank, most = effective_rank(features), min(features.shape[0] - 1, features.shape[1])
        return {
            "effective_rank": rank,
            "rank_share": rank / max(1, most),
            "spread": embeddings.std(0).mean() / embeddings.square().mean().sqrt().clamp(min=1e-12),
        }


def collapse(row: dict[str, Any]) -> str | None:
    """In words, what a logged row says about collapse; None where all is well."""
    rank, share, spread = (row.get(key) for key in ("effective_rank", "rank_share", "spread"))
    if rank is None or share is None or spread is None:
        return None
    if spread < COLLAPSED_SPREAD:
        return (
            f"collapsed: all images get nearly the same embedding (they differ by {spread:.1%} of its size)."
            " Likely cause: equal views are rewarded more than different images; raise the objective's"
            " weight of variance, or lower optimizer.lr"
        )
    if share < COLLAPSED_RANK:
        return (
            f"collapsed: features vary along {rank:.1f} directions only ({share:.1%} of the possible)."
            " Likely cause: augmentation so strong that only one trait survives it, too small a weight of"
            " covariance, or images that are nearly all alike"
        )
    return None
