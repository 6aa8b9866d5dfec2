"""Live probes: what simple models can read off the features while they are learnt."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from jichu.core.progress import say
from jichu.core.randomness import generator
from jichu.data.target import Target
from jichu.models.backbone import Features
from jichu.models.classical.estimated import Estimated
from jichu.models.classical.linear import LogisticRegression, Ridge
from jichu.models.classical.neighbours import NearestNeighbours

from .predict import embed

_MOST = 1000  # rows that a probe is fitted to, and as many that it is measured on
TASKS = ("classification", "regression")
KNN, LINEAR = "knn_probe", "linear_probe"


class Probe:
    """An evaluation for `fit`: the accuracy of the nearest neighbours and of a linear model on frozen features, both
    fitted to some labelled training rows and measured on others; of numbers, R². Labels are looked at, not learnt
    from. `task` is one of TASKS."""

    def __init__(
        self,
        tensors: dict[str, Tensor],
        target: Target,
        truth: Tensor,
        rows: Tensor,
        held_out: Tensor,
        seed: int,
    ):
        """`rows` are labelled training rows; where there is no row in `held_out`, half of them are held out."""
        rows = rows[torch.randperm(len(rows), generator=generator("probe", seed))]
        if not len(held_out):
            rows, held_out = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        order = torch.randperm(len(held_out), generator=generator("probe", "held out", seed))
        self.fitted, self.held_out = rows[:_MOST], held_out[order[:_MOST]]
        self.tensors, self.target = tensors, target
        self.truth, self.wanted = truth[self.fitted], truth[self.held_out]

    @property
    def rows(self) -> int:
        """How many rows one look takes."""
        return len(self.fitted) + len(self.held_out)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        features = embed(model, self.tensors, torch.cat([self.fitted, self.held_out]))
        with torch.autocast("cpu", enabled=False):  # training may be in fewer bits
            return self._measured(features)

    def _measured(self, features: Tensor) -> dict[str, float]:
        known, asked = features.split([len(self.fitted), len(self.held_out)])
        numbers = self.target.task == "regression"
        outputs = 1 if numbers else len(self.target.classes)
        heads: dict[str, Estimated] = {
            KNN: NearestNeighbours(known.shape[1], outputs, self.target.task),
            LINEAR: Ridge(known.shape[1], 1)
            if numbers
            else LogisticRegression(known.shape[1], outputs, c=0.1),
        }
        found = {}
        for name, head in heads.items():
            head.estimate(known, self.truth, known)
            said = head(Features(asked))
            found[name] = (
                self._r2(said[:, 0]) if numbers else float((said.argmax(1) == self.wanted).float().mean())
            )
        what = "R²" if numbers else "accuracy"
        say(f"  probes: {what} {found[LINEAR]:.1%} of a linear model, {found[KNN]:.1%} of nearest neighbours")
        return found

    def _r2(self, said: Tensor) -> float:
        wanted = self.wanted.double()
        if (wanted == wanted[0]).all():
            return math.nan
        return float(1 - (said - wanted).square().sum() / (wanted - wanted.mean()).square().sum())
