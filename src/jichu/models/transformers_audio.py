"""Sound models of `transformers` as backbones: wav2vec 2.0 by configuration, others around a checkpoint.

The module inside is theirs, unchanged: its `save_pretrained` writes a folder for `AutoModel.from_pretrained`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError

from .attention import quicken_attention
from .backbone import Backbone, Features
from .library import quiet

Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
UNHEARD = "unheard"  # of a batch: the frames [B, T] that the transformer is not to hear
# Randomness that is not drawn by row, or not seeded: masking is ours, and layers are not skipped
OURS = {"apply_spec_augment": False, "layerdrop": 0.0}
_WIDE_RATE = 16_000  # samples a second from which a frame is of 320 samples; below of 160
_KERNELS, _STRIDES = [10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2]


class TransformersAudio(Backbone):
    """A model of `transformers` that hears waves [B, samples], with its own parameter names.

    sequence [B, T, D] are its frames, pooled their mean. Of the frames that the batch says are `unheard` the
    transformer is given zeros.
    """

    module: Any  # a PreTrainedModel
    saved_config: dict[str, Any] | None = None

    def __init__(self, module: nn.Module, samples: int):
        super().__init__()
        self.module = module
        quicken_attention(module)
        for name, parameter in module.named_parameters():
            if name.endswith("masked_spec_embed"):  # no gradient can reach it here
                parameter.requires_grad_(False)
        training = self.training
        try:
            with torch.no_grad():
                self.width = self.eval()({"audio": torch.zeros(1, samples)}).pooled.shape[1]
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"{type(module).__name__} cannot hear {samples} samples: {error}",
                expected="longer sounds, as data.seconds",
            ) from None
        self.train(training)

    def forward(self, batch: dict[str, Tensor]) -> Features:
        with self._deaf_to(batch.get(UNHEARD)):
            sequence = self.module(batch["audio"]).last_hidden_state
        return Features(sequence.mean(1), sequence=sequence)

    @contextlib.contextmanager
    def _deaf_to(self, unheard: Tensor | None) -> Iterator[None]:
        if unheard is None:
            yield
            return

        def silence(module: nn.Module, given: Any, found: Any) -> Any:
            hidden, *rest = found if isinstance(found, tuple) else (found,)
            hidden = hidden.masked_fill(unheard[:, :, None], 0.0)
            return (hidden, *rest) if isinstance(found, tuple) else hidden

        hook = self.module.feature_projection.register_forward_hook(silence)
        try:
            yield
        finally:
            hook.remove()


def from_config(config: Any) -> nn.Module:
    """The bare model of a configuration with fresh weights."""
    with quiet() as library:
        return library.AutoModel.from_config(config, dtype=torch.float32)


def wav2vec2(
    rate: int,
    samples: int,
    width: Count = 192,
    depth: Annotated[int, Field(ge=1, le=1000)] = 4,
    heads: Count = 3,
    convolutions: Count = 128,
    mlp: Count = 4,
    dropout: Share = 0.0,
) -> TransformersAudio:
    """wav2vec 2.0 (Baevski et al., 2020, arXiv 2006.11477): `convolutions` is the width of the layers that make
    frames of 20 ms out of samples, `mlp` hidden width over width. Without pretrained weights at 8,000 Hz frames are
    half as many samples."""
    if width % heads or width % 16:
        raise UsageError(
            f"a width of {width} in {heads} heads", expected="a multiple of 16 that heads divide"
        )
    layers = len(_STRIDES) if rate >= _WIDE_RATE else len(_STRIDES) - 1
    with quiet() as library:
        config = library.Wav2Vec2Config(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=mlp * width,
            conv_dim=[convolutions] * layers, conv_kernel=_KERNELS[:layers], conv_stride=_STRIDES[:layers],
            hidden_dropout=dropout, attention_dropout=dropout, activation_dropout=dropout, feat_proj_dropout=dropout,
            **OURS,
        )  # fmt: skip
    return TransformersAudio(from_config(config), samples)


def _preset(width: int, depth: int, heads: int, convolutions: int) -> Callable[..., TransformersAudio]:
    def preset(rate: int, samples: int, dropout: Share = 0.0) -> TransformersAudio:
        return wav2vec2(rate, samples, width, depth, heads, convolutions, dropout=dropout)

    return preset


wav2vec2_mini, wav2vec2_base = _preset(192, 4, 3, 128), _preset(768, 12, 12, 512)
