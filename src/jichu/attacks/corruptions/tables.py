"""Of a table: `numbers` [B, F], float with NaN for gaps, in distances of their quartiles, and `categories` [B, G], codes whose
0 is unknown. Each gives both."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

Cells = dict[str, Tensor]
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)


def noise(cells: Cells, strength: int, rng: Generator) -> Cells:
    """Numbers measured less well: normal, a tenth to one and a half of the distance of the quartiles."""
    if "numbers" not in cells:
        return cells
    x = cells["numbers"]
    deviation = (0.1, 0.2, 0.5, 1.0, 1.5)[strength - 1]
    return {**cells, "numbers": x + deviation * torch.randn(x.shape, generator=rng).to(x)}


def missing(cells: Cells, strength: int, rng: Generator) -> Cells:
    """So many cells that are not known."""
    empty: dict[str, float] = {"numbers": torch.nan, "categories": 0}
    share = _SHARES[strength - 1]
    return {
        name: torch.where(
            torch.rand(x.shape, generator=rng).to(x.device) < share,
            torch.tensor(empty[name], dtype=x.dtype),
            x,
        )
        for name, x in cells.items()
    }


def swapped(cells: Cells, strength: int, rng: Generator) -> Cells:
    """So many cells that are another row's, as where columns slipped or records were mixed up."""
    share = _SHARES[strength - 1]
    found = {}
    for name, x in cells.items():
        other = torch.rand(x.shape, generator=rng).argsort(0).to(x.device)
        found[name] = torch.where(
            torch.rand(x.shape, generator=rng).to(x.device) < share, x.gather(0, other), x
        )
    return found
