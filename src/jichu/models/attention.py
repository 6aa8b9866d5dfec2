"""Attention as plain products, a block of queries at a time, where a processor computes in bfloat16.

torch's flash kernel there makes a small product of its own for each row, head and block: the products of all rows
at once take a quarter to two thirds of its time, and dropout no detour. What no query of a block sees is skipped.
Scores and weights are rounded to bfloat16 on the way, as in the library's own products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .dropout import kept

NAME = "products"
_BLOCK = 64  # queries, of which each sees what is before it; where all is seen there is less to a small block
_SHARE = 8  # tokens for each unit of a head: of more the weights take more memory than what they are made of
_DTYPES = (torch.bfloat16, torch.float16)


def quicken_attention(model: Any) -> None:
    """Let a model of `transformers` that would call torch's kernel choose between it and products."""
    if model.config._attn_implementation != "sdpa":
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _suits(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    rows, columns = query.shape[2], key.shape[2]
    short = max(rows, columns) <= _SHARE * query.shape[3]
    told = mask is not None or rows == columns  # else it is to be known where the rows stand
    return (
        query.device.type == "cpu" and query.dtype in _DTYPES and short and told
        and key.shape[1] == query.shape[1] and (mask is None or mask.dtype == torch.bool)
    )  # fmt: skip


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
    position_bias: Tensor | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The library's interface: query, key and value [B, heads, T, D]; gives [B, T, heads, D]."""
    rows, columns = query.shape[2], key.shape[2]
    back = rows > 1 and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    odd = {name for name in ("cache", "softcap") if others.get(name) is not None}
    # T5's scores, which have a bias, are not scaled, and too large to be rounded
    if odd or position_bias is not None or not _suits(query, key, attention_mask):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if position_bias is not None:
            others["position_bias"] = position_bias
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    key, mask, found = key.transpose(2, 3), attention_mask, []
    if mask is None and back:
        mask = torch.ones(1, 1, rows, columns, dtype=torch.bool).tril()
    elif mask is not None:
        mask = mask.expand(-1, -1, rows, -1)
    size = _BLOCK if back else 2 * _BLOCK
    for first, block in zip(range(0, rows, size), (query * scale).split(size, 2), strict=True):
        last, seen = first + block.shape[2], columns
        if back and rows == columns and mask is not None and not mask[:, :, first:last, last:].any():
            seen = last
        scores = block @ key[..., :seen]
        if mask is not None:
            scores.masked_fill_(~mask[:, :, first:last, :seen], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)  # rounded from single precision
        if dropout:
            weights = weights * kept(weights, dropout)
        found.append((weights @ value[:, :, :seen]).transpose(1, 2))
    return torch.cat(found, 1), None
