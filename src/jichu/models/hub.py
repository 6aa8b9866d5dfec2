"""Pretrained backbones by name: `hf:owner/name`, `hf:owner/name@revision`, `hf:./folder`.

A name is looked for in a local folder, or in the local cache and then on the Hugging Face Hub. Only JSON
and safetensors are fetched, and nothing in them is run. Two formats are read: checkpoints of
`transformers`, and those of `timm` for the classic networks that we have under the same name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from jichu.core.config import Spec
from jichu.core.errors import DataError, JichuError, UsageError, nearest, shown, unknown
from jichu.core.files import read_json
from jichu.core.names import construct

from . import BACKBONES
from .backbone import Backbone
from .fetch import find
from .transformers_vision import Readout, TransformersVision, from_config, model_class, quiet, trial
from .weights import load_tensors, read_tensors, set_statistics

_PICKLES = ("*.bin", "*.pkl", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_DEEPEST = 1000  # layers; a network of more is a mistake, and would be built for hours
# Keys of a configuration by which the library would fetch or run code of others.
_RUNS = ("auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal")
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


def load(
    name: str, channels: int, size: int, readout: Readout = "cls", config: dict[str, Any] | None = None
) -> Backbone:
    """The backbone behind an `hf:` name, for images of some channels and size.

    `image_mean`, `image_std` and `image_size` say what it was trained on, where the checkpoint does;
    `saved_config` is all that is needed to build it again. With `config`, which is that of an earlier
    load, it is built with fresh weights and neither folder nor hub is asked: the weights are in the
    model folder. For grey images the first convolution is summed over its colours, as timm does.
    """
    if config is not None:
        return _build(config, channels, size, readout)
    folder = find(name.removeprefix("hf:"))
    about = _config(folder)
    _refuse_damaged(folder)
    try:
        if "architecture" in about:
            return _load_timm(folder, about, channels, size)
        return _load_transformers(folder, about, channels, size, readout)
    except JichuError:
        raise
    except Exception as error:  # of values that are wrong together the libraries raise whatever they lead to
        told = shown(str(error).split("\n")[0])
        raise DataError(f"no backbone can be made as its files say: {told}", where=folder) from None


def trained_size(name: str) -> int | None:
    """The side of the images that the checkpoint behind an `hf:` name was trained on, where it says it."""
    folder = find(name.removeprefix("hf:"))
    about = _config(folder)
    return _native(about) if "architecture" in about else _pixels(folder, about).size


def _build(config: dict[str, Any], channels: int, size: int, readout: Readout) -> Backbone:
    if "architecture" in config:
        return _classic(config, channels, "config.json")
    return TransformersVision(from_config(_parsed(config, channels, "config.json")), channels, size, readout)


# ------------------------------------------------------------------- a folder


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise UsageError(f"no config.json in {folder}", expected="a checkpoint of transformers or timm")
    about = read_json(file, ())
    for key, value in about.items():
        counts = [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
        if ("layers" in key or "depth" in key) and max(counts, default=0) > _DEEPEST:
            raise DataError(f"{key} is {shown(value)}", where=file, expected=f"at most {_DEEPEST}")
    return about


def _refuse_damaged(folder: Path) -> None:
    """Every safetensors file is whole, and there is one."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [p.name for pattern in _PICKLES for p in folder.glob(pattern)]
        only = (
            f"only {', '.join(pickles)}, and loading that could run code"
            if pickles
            else "no weights to trust"
        )
        raise UsageError(
            f"no safetensors in {folder}: {only}", expected="model.safetensors, often in another revision"
        )
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"damaged: {error}", where=file, expected="the file as published; fetch it again"
            ) from None


# ------------------------------------------------------------------- transformers


def _parsed(about: dict[str, Any], channels: int, where: object) -> Any:
    """The configuration as an object of the library, for images of some channels."""
    kind = about.get("model_type")
    if kind not in MODEL_TYPES:
        raise unknown("model_type", str(kind), MODEL_TYPES, where=where)
    with quiet() as library:
        from huggingface_hub.errors import StrictDataclassError

        try:
            safe = {key: value for key, value in about.items() if key not in _RUNS}
            return library.AutoConfig.for_model(**{**safe, "num_channels": channels, "return_dict": True})
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise DataError(f"not a configuration of {kind}: {error}", where=where) from None


def _load_transformers(
    folder: Path, about: dict[str, Any], channels: int, size: int, readout: Readout
) -> TransformersVision:
    colours = about.get("num_channels", 3)
    module = _pretrained(folder, _parsed(about, colours, folder / "config.json"))
    if channels != colours:
        fresh = from_config(_parsed(about, channels, folder / "config.json"))
        load_tensors(fresh, module.state_dict(), folder)
        module = fresh
    backbone = TransformersVision(module, channels, size, readout)
    pixels = _pixels(folder, about)
    backbone.image_size = pixels.size
    if pixels.mean and pixels.std:
        set_statistics(backbone, pixels.mean, pixels.std, pixels.size or size)
    backbone.saved_config = json.loads(module.config.to_json_string(use_diff=False))  # type: ignore[union-attr, operator]
    return backbone


def _pretrained(folder: Path, config: Any) -> nn.Module:
    """The library's own loading, of safetensors only; refused where a tensor is missing or does not fit."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in from_config(config).parameters())
    found = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if parameters > found:  # of a byte each at least; they would be allocated before they are missed
        raise UsageError(
            f"{parameters:,} parameters, for which {found:,} bytes are there", where=folder / "config.json",
            expected="the configuration of these weights",
        )  # fmt: skip
    with quiet() as library:
        kind, options = model_class(library, config)
        module, report = kind.from_pretrained(  # type: ignore[attr-defined]
            folder, config=config, use_safetensors=True, local_files_only=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True, dtype=torch.float32, **options,
        )  # fmt: skip
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise UsageError(
            f"the weights do not fit: {name} is {list(found)}", where=folder, expected=list(expected)
        )
    if missing := sorted(n for n in report["missing_keys"] if not n.endswith("num_batches_tracked")):
        raise UsageError(
            f"the checkpoint lacks {len(missing)} tensors of {config.model_type}: {', '.join(missing[:3])}",
            where=folder,
            expected="weights of what config.json describes",
            nearest=nearest(missing[0], report["unexpected_keys"]),
        )
    return module


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
