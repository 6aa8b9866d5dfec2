"""Published checkpoints that look at images: of `transformers`, and of `timm` for the classic networks that
we have under the same name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError, nearest, shown
from jichu.core.files import read_json
from jichu.core.names import construct

from . import BACKBONES
from .backbone import Backbone
from .library import quiet
from .published import parsed, pretrained
from .transformers_vision import Readout, TransformersVision, from_config, model_class, trial
from .weights import load_tensors, read_tensors, set_statistics

# Kinds of `transformers` that take images alone; every one of them is tested.
MODEL_TYPES = (
    "beit", "clip_vision_model", "convnext", "convnextv2", "deit", "dinov2", "dinov2_with_registers",
    "dinov3_vit", "efficientnet", "ijepa", "mobilenet_v2", "mobilevit", "regnet", "resnet",
    "siglip_vision_model", "swin", "swinv2", "vit",
)  # fmt: skip

_Three = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=3)]


class Pixels(NamedTuple):
    """What images a checkpoint was trained on: statistics of pixels from 0 to 1, and the side."""

    mean: _Three | None
    std: _Three | None
    size: Annotated[int, Field(ge=1, le=4096)] | None


_PIXELS = TypeAdapter(Pixels)


def load(folder: Path, about: dict[str, Any], channels: int, size: int, readout: Readout) -> Backbone:
    """The backbone of a checkpoint, for images of some channels and size."""
    if "architecture" in about:
        return _load_timm(folder, about, channels, size)
    return _load_transformers(folder, about, channels, size, readout)


def build(config: dict[str, Any], channels: int, size: int, readout: Readout) -> Backbone:
    """The same with fresh weights, from what an earlier load said of it."""
    if "architecture" in config:
        return _classic(config, channels, "config.json")
    return TransformersVision(from_config(_parsed(config, channels, "config.json")), channels, size, readout)


def trained_size(folder: Path, about: dict[str, Any]) -> int | None:
    """The side of the images it was trained on, where it says it."""
    return _native(about) if "architecture" in about else _pixels(folder, about).size


def _parsed(about: dict[str, Any], channels: int, where: object) -> Any:
    return parsed(about, MODEL_TYPES, where, num_channels=channels)


def _load_transformers(
    folder: Path, about: dict[str, Any], channels: int, size: int, readout: Readout
) -> TransformersVision:
    colours = about.get("num_channels", 3)
    config = _parsed(about, colours, folder / "config.json")
    with quiet() as library:
        kind, options = model_class(library, config)
    module, _ = pretrained(folder, config, kind, options, lambda: from_config(config))
    if channels != colours:
        fresh = from_config(_parsed(about, channels, folder / "config.json"))
        load_tensors(fresh, module.state_dict(), folder)
        module = fresh
    backbone = TransformersVision(module, channels, size, readout)
    pixels = _pixels(folder, about)
    backbone.image_size = pixels.size
    if pixels.mean and pixels.std:
        set_statistics(backbone, pixels.mean, pixels.std, pixels.size or size)
    backbone.saved_config = json.loads(module.config.to_json_string(use_diff=False))
    return backbone


def _pixels(folder: Path, about: dict[str, Any]) -> Pixels:
    file = folder / "preprocessor_config.json"
    found = read_json(file, ()) if file.exists() else {}
    side = found.get("crop_size") or found.get("size") or about.get("image_size")
    if isinstance(side, dict):
        side = side.get("height") or side.get("shortest_edge")
    side = side[0] if isinstance(side, list) and side else side
    mean, std = found.get("image_mean") or None, found.get("image_std") or None
    if found.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    try:
        return _PIXELS.validate_python((mean, std, side or None))
    except ValidationError as error:
        told = error.errors()[0]
        raise DataError(
            f"its mean, std and size are {shown((mean, std, side))}: {told['msg']}", where=folder
        ) from None


# ------------------------------------------------------------------- timm


def _load_timm(folder: Path, about: dict[str, Any], channels: int, size: int) -> Backbone:
    backbone = _classic(about, channels, folder / "config.json")
    load_tensors(backbone, read_tensors(folder / "model.safetensors"), folder / "model.safetensors")
    trained = about.get("pretrained_cfg", {})
    if "mean" in trained and "std" in trained:
        set_statistics(backbone, trained["mean"], trained["std"], _native(about))
    trial(backbone, channels, size)
    vars(backbone)["saved_config"] = {k: about[k] for k in ("architecture", "pretrained_cfg") if k in about}
    return backbone


def _classic(about: dict[str, Any], channels: int, where: object) -> Backbone:
    """Our network of timm's name, with the stem that its weights were trained with."""
    architecture = str(about["architecture"]).partition(".")[0]
    ours = {n: path for n, path in BACKBONES.items() if not path.startswith(TransformersVision.__module__)}
    name = architecture.replace("_", "-")
    if name not in ours:
        raise UsageError(
            f"timm's {architecture} is none of our networks",
            where=where,
            expected=f"one of {', '.join(sorted(ours))}; of ViT, ConvNeXt and the like a checkpoint of"
            " transformers, such as hf:facebook/convnext-tiny-224",
            nearest=nearest(name, ours),
        )
    return construct("backbone", Spec(name=name), ours, channels=channels, size=_native(about))()


def _native(about: dict[str, Any]) -> int:
    try:
        return int(about.get("pretrained_cfg", {}).get("input_size", (3, 224, 224))[-1])
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        raise DataError(f"its pretrained_cfg says no input_size: {error}", where="config.json") from None
