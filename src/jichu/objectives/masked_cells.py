"""Masked columns of tables: what stood in some cells is to be told from the others (as in VIME: Yoon et al., 2020)."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.data.augment.tables import MISSING
from jichu.models.inputs import Numbers

from .base import PRETRAINING, Batch, Context, Objective, row_weight
from .views import pooled_width

_WIDE = 8.0  # a squared error is bounded so: a number far out is not to be learnt from alone


class MaskedCells(Objective):
    """A share of the cells of each row is made missing, and a small decoder tells them from the row's features:
    numbers, standardised as the model has them, by squared error; categories by cross-entropy over that of guessing.
    A row's loss is the mean over those of its masked cells that held something.

    `tensors` and `rows` are the training rows, from which the columns' spread and sizes are taken.
    """

    task = PRETRAINING
    kinds = ("table",)
    columns = ("numbers", "categories")

    def __init__(
        self,
        tensors: dict[str, Tensor],
        rows: Tensor,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.3,
        hidden: Annotated[int, Field(ge=1)] = 256,
    ):
        super().__init__()
        found = {name: tensors[name] for name in self.columns if name in tensors and tensors[name].shape[1]}
        if not found:
            raise UsageError(
                "masked-cells masks the cells of tables, and these data have none",
                where="objective", expected="a table, or vicreg for images",
            )  # fmt: skip
        self.share, self.hidden = share, hidden
        self.count, self.sizes = 0, list[int]()  # numbers, and codes of each category
        if "numbers" in found:
            self.count = found["numbers"].shape[1]
            self.ready = Numbers(self.count)
            self.ready.estimate(found["numbers"], rows)
        if "categories" in found:
            self.sizes = (found["categories"][rows].amax(0) + 1).tolist()
        self.decoder: nn.Module = nn.Identity()

    def bind(self, model: nn.Module, batch: Batch) -> None:
        before, after = pooled_width(model, batch), self.count + sum(self.sizes)
        self.decoder = nn.Sequential(
            nn.Linear(before, self.hidden), nn.ReLU(), nn.Linear(self.hidden, after)
        ).to(batch["row"].device)

    def prepare(self, batch: Batch, context: Context) -> Batch:
        changed: Batch = {}
        for name in self.columns:
            if name in batch and batch[name].shape[1]:
                cells = batch[name]
                known = cells != 0 if name == "categories" else ~cells.isnan()
                drawn = context.uniform(batch["row"], cells.shape[1], f"masked.{name}") < self.share
                changed |= {
                    name: cells.masked_fill(drawn, MISSING[name]),
                    f"truth.{name}": cells,
                    f"asked.{name}": drawn & known,
                }
        return {**batch, **changed}

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        asked = [batch[key].any(1) for key in batch if key.startswith("asked.")]
        return {"loss": row_weight(batch) * torch.stack(asked).any(0)}

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        features = model(batch)["features"].pooled
        return {"features": features, "told": self.decoder(features)}

    def losses(self, outputs: dict[str, Any], batch: Batch) -> Tensor:
        told = outputs["told"].float()
        lost, asked = [], []
        if self.count:
            truth = self.ready(batch["truth.numbers"]).nan_to_num()
            lost.append((told[:, : self.count] - truth).square().clamp(max=_WIDE))
            asked.append(batch["asked.numbers"])
        start = self.count
        for column, size in enumerate(self.sizes):
            truth = batch["truth.categories"][:, column].clamp(
                max=size - 1
            )  # a code that training rows do not have
            entropy = F.cross_entropy(told[:, start : start + size], truth, reduction="none")
            lost.append((entropy / math.log(max(2, size)))[:, None])
            start += size
        if self.sizes:
            asked.append(batch["asked.categories"])
        masked = torch.cat(asked, 1)
        return (torch.cat(lost, 1) * masked).sum(1) / masked.sum(1).clamp(min=1)
