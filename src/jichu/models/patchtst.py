"""PatchTST of `transformers` as a backbone of series."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from jichu.core.errors import UsageError

from .attention import quicken_attention
from .backbone import Backbone, Features
from .common import Depth, Rate, Width
from .library import quiet


class PatchTST(Backbone):
    """A transformer over patches of `patch` steps, `stride` apart, of each column by itself (Nie et al., 2023, arXiv
    2211.14730). columns [B, F, P × D] are the patches of each, sequence [B, P, D] their mean over the columns, pooled
    the mean of that. Levels are taken off before."""

    module: Any  # a PatchTSTModel

    def __init__(
        self,
        steps: int,
        columns: int,
        width: Width = 64,
        depth: Depth = 3,
        heads: Annotated[int, Field(ge=1)] = 4,
        mlp: Annotated[int, Field(ge=1)] = 2,
        patch: Annotated[int, Field(ge=1)] | None = None,
        stride: Annotated[int, Field(ge=1)] | None = None,
        dropout: Rate = 0.2,
    ):
        super().__init__()
        patch = patch or max(1, min(16, steps // 4))
        stride = stride or max(1, patch // 2)
        if steps <= patch:
            raise UsageError(
                f"windows of {steps} steps in patches of {patch}",
                expected=f"data.series.context above {patch}",
            )
        if width % heads:
            raise UsageError(f"a width of {width} in {heads} heads", expected="a width that heads divide")
        with quiet() as library:
            config = library.PatchTSTConfig(
                num_input_channels=columns, context_length=steps, patch_length=patch, patch_stride=stride,
                d_model=width, num_hidden_layers=depth, num_attention_heads=heads, ffn_dim=mlp * width, scaling=None,
                do_mask_input=False, attention_dropout=dropout, positional_dropout=dropout, ff_dropout=dropout,
                positional_encoding_type="sincos",
            )  # fmt: skip
            self.module = library.PatchTSTModel(config)
        quicken_attention(self.module)
        self.width = width
        self.column_width = width * self.module.patchifier.num_patches

    def forward(self, batch: dict[str, Tensor]) -> Features:
        patches = self.module(past_values=batch["series"]).last_hidden_state  # [B, F, P, D]
        sequence = patches.mean(1)
        return Features(sequence.mean(1), sequence=sequence, columns=patches.flatten(2))
