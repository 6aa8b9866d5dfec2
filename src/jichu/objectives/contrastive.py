"""Contrastive learning: the other view of a row is to be told from the views of all other rows."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from jichu.core.ranks import gather_rows, rank
from jichu.data.augment import Augment

from .base import Batch
from .taught import Momentum, Predicting
from .views import JointEmbedding, Width

Temperature = Annotated[float, Field(gt=0, le=10)]


def nt_xent(embeddings: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy [B] of embeddings [B, 2, D]: each of the 2B has to find the
    other view of its row among the 2N - 1 others, of all processes (Chen et al., 2020, equation 1)."""
    mine = F.normalize(embeddings, dim=2)
    everyone = gather_rows(mine).flatten(0, 1)
    mine = mine.flatten(0, 1)
    places = rank() * len(mine) + torch.arange(len(mine), device=mine.device)
    logits = mine @ everyone.T / temperature
    logits = logits.scatter(1, places[:, None], float("-inf"))  # not itself
    return F.cross_entropy(logits, places ^ 1, reduction="none").view(-1, 2).mean(1)


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy [B] of finding a row's key among the keys [B, D] of all processes (van den Oord et al., 2018)."""
    everyone = gather_rows(F.normalize(keys))
    places = rank() * len(queries) + torch.arange(len(queries), device=queries.device)
    logits = F.normalize(queries) @ everyone.T / temperature
    return F.cross_entropy(logits, places, reduction="none")


class SimCLR(JointEmbedding):
    """SimCLR (Chen et al., 2020, arXiv 2002.05709): two views of a row are to be more alike than those of any
    two rows of the batch. Large batches help: with `accumulate` they need no more memory."""

    against_collapse = "lower the objective's temperature, or optimizer.lr"

    def __init__(
        self, augment: Augment, temperature: Temperature = 0.5, width: Width = 128, hidden: Width = 256
    ):
        super().__init__(augment, 2, width, hidden)
        self.temperature = temperature

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        return nt_xent(outputs["embeddings"], self.temperature)


class MoCo(Predicting):
    """MoCo v3 (Chen, Xie and He, 2021, arXiv 2104.02057): a row's view is to be told among the other rows' by its
    likeness to what a moving average of the network, the teacher, makes of the other view."""

    against_collapse = "lower the objective's temperature, or optimizer.lr"

    def __init__(
        self,
        augment: Augment,
        temperature: Temperature = 0.2,
        momentum: Momentum = 0.99,
        width: Width = 128,
        hidden: Width = 256,
    ):
        super().__init__(augment, 2, width, hidden, momentum)
        self.temperature = temperature

    def compare(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        (one, two), (key_one, key_two) = outputs["predictions"].unbind(1), outputs["targets"].unbind(1)
        both = info_nce(one, key_two, self.temperature) + info_nce(two, key_one, self.temperature)
        return 2 * self.temperature * both  # as the reference scales it, so that gradients do not hang on it
