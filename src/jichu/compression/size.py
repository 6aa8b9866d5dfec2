"""How large a model is."""

from __future__ import annotations

import zlib

import torch
from torch import nn

from jichu.data.batches import Batch, select
from jichu.models.cost import forward_flops, weight_bytes
from jichu.models.modes import evaluating


def size(model: nn.Module, batch: Batch) -> dict[str, int]:
    """Parameters, those of them that are not zero, bytes of parameters and buffers, bytes of the parameters packed (zlib,
    as gzip), and multiplications with additions (MACs) for the first row of a batch."""
    parameters = [parameter.detach().cpu() for parameter in model.parameters()]
    row = select(batch, torch.arange(len(batch["row"])) == 0)
    with evaluating(model) as device:
        macs = forward_flops(model, {name: value.to(device) for name, value in row.items()})["forward"] // 2
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzero": sum(int(p.count_nonzero()) for p in parameters),
        "bytes": weight_bytes(model),
        "packed_bytes": sum(len(zlib.compress(p.contiguous().numpy().tobytes(), 1)) for p in parameters),
        "macs": macs,
    }


def told(before: dict[str, int], after: dict[str, int]) -> str:
    """Both in a line."""
    named = {
        "parameters": "parameters",
        "nonzero": "not zero",
        "bytes": "bytes",
        "packed_bytes": "bytes packed",
        "macs": "MACs",
    }
    parts = [
        f"{name} {before[key]:,} → {after[key]:,} ({before[key] / after[key]:.3g}×)" if after[key] else f"{name} {before[key]:,} → 0"
        for key, name in named.items()
    ]  # fmt: skip
    return "; ".join(parts)
