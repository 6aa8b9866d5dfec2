"""Vision models of `transformers` as backbones: ViT and ConvNeXt by configuration, others around a checkpoint.

The module inside is theirs, unchanged: `save_pretrained` writes a folder for `AutoModel.from_pretrained`.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.core.files import write_json

from .attention import quicken_attention
from .backbone import Backbone, Features
from .library import quiet

Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Readout = Literal["cls", "mean"]
VISIBLE = "visible"  # of a batch: the places [B, K] of the patches that a transformer is to see, if not all


def trial(backbone: Backbone, channels: int, size: int) -> Features:
    """The features of one black image. UsageError where the network cannot take such images."""
    training = backbone.training
    try:
        with torch.no_grad():
            return backbone.eval()({"image": torch.zeros(1, channels, size, size)})
    except (RuntimeError, ValueError) as error:
        network = type(getattr(backbone, "module", backbone)).__name__
        raise UsageError(
            f"{network} cannot take images [{channels}, {size}, {size}]: {error}",
            expected="larger images, as data.size",
        ) from None
    finally:
        backbone.train(training)


class TransformersVision(Backbone):
    """A vision model of `transformers` with its own parameter names.

    Of a convolutional model maps and pooled are as it gives them. Of a model of tokens, sequence holds
    the patches without class and register tokens; pooled is by `readout` the class token (what the model
    itself pools to where it has none) or the mean of the patches; where the batch names the `visible` ones it
    sees no others. Positions are interpolated where images have another size than the model was made for.
    """

    module: Any  # a PreTrainedModel
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None
    image_size: int | None = None
    saved_config: dict[str, Any] | None = None

    def __init__(self, module: nn.Module, channels: int, size: int, readout: Readout = "cls"):
        super().__init__()
        self.module = module
        quicken_attention(module)
        self.readout = readout
        for name, parameter in module.named_parameters():
            if name.endswith("mask_token"):  # of masked pretraining; no gradient can reach it here
                parameter.requires_grad_(False)
        takes = inspect.signature(module.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        self.width = trial(self, channels, size).pooled.shape[1]

    def forward(self, batch: dict[str, Tensor]) -> Features:
        image, visible = batch["image"], batch.get(VISIBLE)
        with self._seeing(visible, image) as dropped:
            out = self.module(pixel_values=image, **self.options)
        hidden, pooled = out.last_hidden_state, getattr(out, "pooler_output", None)
        if hidden.ndim == 4:
            return Features(hidden.mean((2, 3)) if pooled is None else pooled.flatten(1), maps=hidden)
        others = max(0, hidden.shape[1] - (dropped[0].shape[1] if dropped else self._patches(image)))
        patches = hidden[:, others:]
        if self.readout == "mean" or (pooled is None and not others):
            pooled = patches.mean(1)
        return Features(hidden[:, 0] if pooled is None else pooled, sequence=patches)

    def _patches(self, image: Tensor) -> int:
        patch = self.module.config.patch_size
        patch = patch if isinstance(patch, int) else patch[0]
        return (image.shape[2] // patch) * (image.shape[3] // patch)

    @contextlib.contextmanager
    def _seeing(self, visible: Tensor | None, image: Tensor) -> Iterator[list[Tensor]]:
        """Only some patches [B, K], by their places, go on from the embeddings; all where nothing is said, or where
        the network needs all of them. Gives the places that did, once they have."""
        embeddings, dropped = getattr(self.module, "embeddings", None), list[Tensor]()
        relative = any(
            getattr(self.module.config, f"use_{which}relative_position_bias", False)
            for which in ("", "shared_")
        )
        if visible is None or relative or not isinstance(embeddings, nn.Module):
            yield dropped
            return

        def choose(module: nn.Module, given: Any, tokens: Any) -> Any:
            if not isinstance(tokens, Tensor) or tokens.ndim != 3:
                return tokens
            others = tokens.shape[1] - self._patches(image)
            dropped.append(visible)
            index = (visible + others)[:, :, None].expand(-1, -1, tokens.shape[2])
            return torch.cat([tokens[:, :others], tokens.gather(1, index)], dim=1)

        hook = embeddings.register_forward_hook(choose)
        try:
            yield dropped
        finally:
            hook.remove()


def model_class(library: Any, config: Any) -> tuple[type, dict[str, Any]]:
    """The bare model for a configuration, and its options. ViT's own pooler, a dense layer that
    checkpoints of classifiers do not have, is left out."""
    kind = library.MODEL_MAPPING[type(config)]
    bare = "add_pooling_layer" in inspect.signature(kind).parameters
    return kind, {"add_pooling_layer": False} if bare else {}


def from_config(config: Any) -> nn.Module:
    """The bare model of a configuration with fresh weights; attention is PyTorch's own where it can be."""
    with quiet() as library:
        _, options = model_class(library, config)
        return library.AutoModel.from_config(config, dtype=torch.float32, **options)


def save_pretrained(backbone: TransformersVision, folder: str | Path) -> None:
    """Write a Hugging Face folder: `config.json` and `model.safetensors`, and where the backbone knows its
    pixel statistics `preprocessor_config.json`. `AutoModel.from_pretrained` gives the same outputs."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=folder) as aside:
        backbone.module.save_pretrained(aside)
        # config.json last: a folder that has one is whole
        for file in sorted(Path(aside).iterdir(), key=lambda f: f.name == "config.json"):
            os.replace(file, folder / file.name)
    if backbone.image_mean is not None:
        size = {"height": backbone.image_size, "width": backbone.image_size}
        about = {"image_mean": backbone.image_mean, "image_std": backbone.image_std, "size": size}
        write_json(
            folder / "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor", **about}
        )


def vit(
    channels: int,
    size: int,
    width: Count = 192,
    depth: Annotated[int, Field(ge=1, le=1000)] = 12,
    heads: Count = 3,
    patch: Count | None = None,
    mlp: Count = 4,
    dropout: Share = 0.0,
    readout: Readout = "cls",
) -> TransformersVision:
    """Vision transformer (Dosovitskiy et al., 2021). `patch` follows the size where it is not given: the
    largest up to 16 that divides it into at least 7 × 7 patches; `mlp` is hidden width over width."""
    if width % heads:
        raise UsageError(f"a width of {width} in {heads} heads", expected="a width that heads divide")
    if patch is None:
        patch = max((p for p in range(1, 17) if size % p == 0 and size >= 7 * p), default=1)
    if size % patch:
        raise UsageError(
            f"images of {size} pixels in patches of {patch}",
            expected=f"data.size: {max(1, round(size / patch)) * patch}",
        )
    with quiet() as library:
        config = library.ViTConfig(
            num_channels=channels, image_size=size, patch_size=patch, hidden_size=width,
            num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=mlp * width,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )  # fmt: skip
    return TransformersVision(from_config(config), channels, size, readout)


def convnext(
    channels: int,
    size: int,
    widths: Annotated[list[Count], Field(min_length=1)] = [96, 192, 384, 768],  # noqa: B006 (read only)
    depths: Annotated[list[Count], Field(min_length=1)] = [3, 3, 9, 3],  # noqa: B006 (read only)
    patch: Count | None = None,
    drop_path: Share = 0.0,
) -> TransformersVision:
    """ConvNeXt (Liu et al., 2022). `patch`, the stride of the stem, follows the size where it is not
    given: 4, or as much less as leaves maps of 4 × 4 at the end. `drop_path` is the stochastic depth."""
    if len(widths) != len(depths):
        raise UsageError(f"{len(widths)} widths and {len(depths)} depths", expected="as many of both")
    if patch is None:
        patch = next((p for p in (4, 2) if size >= 4 * p * 2 ** (len(widths) - 1)), 1)
    with quiet() as library:
        config = library.ConvNextConfig(
            num_channels=channels, image_size=size, patch_size=patch, num_stages=len(widths),
            hidden_sizes=list(widths), depths=list(depths), drop_path_rate=drop_path,
        )  # fmt: skip
    return TransformersVision(from_config(config), channels, size)


def layers(width: int, depth: int, heads: int) -> nn.Sequential:
    """The layers of a ViT and its last normalisation alone, of tokens [B, T, D]."""
    with quiet() as library:
        config = library.ViTConfig(
            image_size=1, patch_size=1, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
            intermediate_size=4 * width,
        )  # fmt: skip
    whole: Any = from_config(config)
    quicken_attention(whole)
    return nn.Sequential(*whole.layers, whole.layernorm)


def _vit(width: int, depth: int, heads: int) -> Callable[..., TransformersVision]:
    def preset(
        channels: int, size: int, patch: Count | None = None, dropout: Share = 0.0, readout: Readout = "cls"
    ) -> TransformersVision:
        return vit(channels, size, width, depth, heads, patch, dropout=dropout, readout=readout)

    return preset


def _convnext(widths: list[int], depths: list[int]) -> Callable[..., TransformersVision]:
    def preset(
        channels: int, size: int, patch: Count | None = None, drop_path: Share = 0.0
    ) -> TransformersVision:
        return convnext(channels, size, widths, depths, patch, drop_path)

    return preset


# the sizes of the papers and of DeiT (Touvron et al., 2021)
vit_tiny, vit_small, vit_base = _vit(192, 12, 3), _vit(384, 12, 6), _vit(768, 12, 12)
convnext_tiny = _convnext([96, 192, 384, 768], [3, 3, 9, 3])
convnext_small = _convnext([96, 192, 384, 768], [3, 3, 27, 3])
convnext_base = _convnext([128, 256, 512, 1024], [3, 3, 27, 3])
