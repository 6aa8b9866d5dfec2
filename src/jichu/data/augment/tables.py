"""Augmentation of the columns of tables: noise, swapped and missing cells."""

from __future__ import annotations

import torch
from torch import Tensor

from jichu.data.config import TableAugmentConfig

from .draws import Uniform, normal

MISSING = {"numbers": float("nan"), "categories": 0}


class TableAugment:
    """Changes `numbers` [B, F] (NaN is missing) and `categories` [B, G] (0 is missing) of a batch.

    `spread` [F] is each number column's standard deviation, which noise is a share of; 1 if not given.
    A swapped cell takes what another row of the batch has in that column (feature corruption: Bahri et
    al., 2021, SCARF, arXiv 2106.15147), so that it alone depends on the batch a row is in.
    """

    def __init__(self, config: TableAugmentConfig, spread: Tensor | None = None):
        self.config, self.spread = config, spread

    def __call__(self, batch: dict[str, Tensor], uniform: Uniform) -> dict[str, Tensor]:
        """The columns that were changed."""
        if self.config == TableAugmentConfig():
            return {}
        changes = {"numbers": self._numbers, "categories": self._categories}
        return {
            name: change(batch[name], lambda n, salt, name=name: uniform(n, f"{name}.{salt}"))  # type: ignore[misc]
            for name, change in changes.items()
            if name in batch and batch[name].shape[1]
        }

    def _numbers(self, cells: Tensor, uniform: Uniform) -> Tensor:
        if self.config.noise:
            spread = 1.0 if self.spread is None else self.spread.to(cells.device)
            cells = cells + self.config.noise * spread * normal(uniform, cells)
        return self._replaced(cells, uniform, MISSING["numbers"])

    def _categories(self, cells: Tensor, uniform: Uniform) -> Tensor:
        return self._replaced(cells, uniform, MISSING["categories"])

    def _replaced(self, cells: Tensor, uniform: Uniform, missing: float) -> Tensor:
        """Cells swapped, then masked, each on its own."""
        rows, columns = cells.shape
        if self.config.swap:
            donors = (uniform(columns, "donor") * rows).long().to(cells.device)
            chosen = uniform(columns, "swap").to(cells.device) < self.config.swap
            cells = torch.where(chosen, cells.gather(0, donors), cells)
        if self.config.mask:
            chosen = uniform(columns, "mask").to(cells.device) < self.config.mask
            cells = cells.masked_fill(chosen, missing)
        return cells
