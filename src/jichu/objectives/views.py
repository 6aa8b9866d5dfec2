"""Joint embedding: several random views of each row, embedded by one network and a projector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jichu.data.augment import Augment
from jichu.metrics.representation import effective_rank

from .base import Batch, Context, Objective

_VIEWS = "views"
# Below this share of the possible rank, or this spread, embeddings carry next to nothing.
COLLAPSED_RANK, COLLAPSED_STD = 0.02, 1e-3


class JointEmbedding(Objective):
    """Makes the views and embeds them; a subclass says what is wanted of embeddings [B, V, D]."""

    independent = False

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
        """Effective rank and spread of the backbone's features of one view."""
        features = outputs["features"][:, 0].float()
        most = min(features.shape[0] - 1, features.shape[1])
        return {
            "effective_rank": effective_rank(features),
            "rank_share": effective_rank(features) / max(1, most),
            "feature_std": features.std(0).mean(),
        }


def collapse(row: dict[str, Any]) -> str | None:
    """In words, what a logged row says about collapse; None where all is well."""
    share, std = row.get("rank_share"), row.get("feature_std")
    if share is None or std is None or (share >= COLLAPSED_RANK and std >= COLLAPSED_STD):
        return None
    if std < COLLAPSED_STD:
        return (
            f"collapsed: every image gets the same features (spread {std:.1e}). Likely cause: the loss rewards"
            " equal views more than different images; raise the objective's weight of spread, or lower the rate"
        )
    return (
        f"collapsed: features vary along {row['effective_rank']:.1f} directions only ({share:.1%} of the possible)."
        " Likely cause: augmentation so strong that only one trait survives it, or too small a weight of spread"
    )
