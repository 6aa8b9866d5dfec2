"""Attention to short texts as plain products, where a processor computes in bfloat16.

torch's flash kernel there makes a small product of its own for each row, head and block: up to 128 tokens the
three products of all rows at once take a third to two thirds of its time, and dropout no detour. Scores are
rounded to bfloat16 on the way, as in the library's own products; the softmax is in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .dropout import kept

NAME = "products"
# Tokens for each unit of a head: of more the scores would take more memory than what they are made of. And
# tokens altogether: of more the flash kernel, which skips what is not seen, is as fast.
_SHARE, _MOST, _MOST_CAUSAL = 2, 128, 64
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


def _suits(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> bool:
    rows, columns = query.shape[2], key.shape[2]
    most = min(_MOST_CAUSAL if causal else _MOST, _SHARE * query.shape[3])
    told = mask is not None or rows == columns  # else it is to be known where the rows stand
    return (
        query.device.type == "cpu" and query.dtype in _DTYPES and max(rows, columns) <= most and told
        and key.shape[1] == query.shape[1] and (mask is None or mask.dtype == torch.bool)
    )  # fmt: skip


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None,
    position_bias: Tensor | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """The library's interface: query, key and value [B, heads, T, D]; gives [B, T, heads, D]."""
    rows, columns = query.shape[2], key.shape[2]
    causal = attention_mask is None and rows > 1
    causal = causal and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    odd = {name for name in ("cache", "softcap") if others.get(name) is not None}
    # T5's scores, which have a bias, are not scaled, and too large to be rounded
    if odd or position_bias is not None or not _suits(query, key, attention_mask, causal):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if position_bias is not None:
            others["position_bias"] = position_bias
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = ((query * scale) @ key.transpose(2, 3)).float()
    if causal:
        attention_mask = torch.ones(rows, columns, dtype=torch.bool).tril()
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1).to(query.dtype)
    if dropout:
        weights = weights * kept(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None
