"""What is stored in whole numbers, as fractions."""

from __future__ import annotations

import torch
from torch import Tensor

_FULL = {torch.uint8: 255, torch.int16: 2**15}


def to_float(values: Tensor) -> Tensor:
    """Pixels in uint8 become 0 to 1, sounds in int16 -1 to 1; floats are left."""
    return values.float().div_(_FULL[values.dtype]) if values.dtype in _FULL else values
