"""Adapters in a model's folder, in the format of `peft`, and the base they stand on.

A model folder may hold adapters in the place of weights: then its weights are those of another model folder, its
base, with what the adapters have learned added. The base is named by its path, in `adapter_config.json`, and by the
fingerprint of its weights, beside the adapters' tensors.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jichu.core.errors import DataError, UsageError, shown
from jichu.core.files import read_json

WEIGHTS = "model.safetensors"
FOLDER, TENSORS, SETTINGS = "adapter", "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # before every name in peft's files
BASE = "base"  # the key of the base's fingerprint in the header
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class Settings(BaseModel):
    """What is read of `adapter_config.json`."""

    model_config = ConfigDict(extra="ignore")

    r: int
    lora_alpha: float
    alpha_pattern: dict[str, float] = {}
    target_modules: list[str] = []
    use_dora: bool = False
    fan_in_fan_out: bool = False
    base_model_name_or_path: str | None = None


def layers(model: nn.Module) -> dict[str, str]:
    """Of each layer that can have an adapter its weight's name and its own, as they are without adapters: dense
    layers, and convolutions that are not cut into groups. What shares its weight with another has none: the other
    would change too."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    found = [
        name.replace(".base_layer", "") for name, module in model.named_modules()
        if ".lora_" not in name and _can_have_one(module) and uses[id(module.weight)] == 1
    ]  # fmt: skip
    return {f"{name}.weight": name for name in found}


def _can_have_one(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # the dense layers of GPT-2


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and every byte of the values: as fast as they can be read."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def is_based(folder: Path) -> bool:
    """Whether a model folder holds adapters and no weights, so that it needs its base."""
    return (folder / FOLDER / TENSORS).exists() and not (folder / WEIGHTS).exists()


def tensors(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder by their names in the file, those of its base and adapters together where it has
    none of its own. DataError for a damaged file, UsageError for a base that is gone or another."""
    if not is_based(folder):
        cure = "the file as it was written; without it --resume runs its stage again"
        return read(folder / WEIGHTS, cure)[0]
    about = settings(folder)
    base, meant = base_of(folder), _own(folder)[1]
    found = tensors(base)
    _refuse_other_base(folder, base, meant, fingerprint(found))
    try:
        return _added(found, own(folder), about)
    except (KeyError, RuntimeError) as error:
        told = shown(str(error).split("\n")[0])
        raise DataError(
            f"adapters that fit no weight of {base}: {told}", where=folder / FOLDER / TENSORS
        ) from None


def own(folder: Path) -> dict[str, Tensor]:
    """What a model folder with adapters has itself: those, and weights in the place of its base's."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in _own(folder)[0].items()}


def _own(folder: Path) -> tuple[dict[str, Tensor], str | None]:
    return read(folder / FOLDER / TENSORS, "the file as it was written, or the run trained again")


def read(file: Path, cure: str | None = None) -> tuple[dict[str, Tensor], str | None]:
    """The tensors in a file, and the fingerprint of the base they are for. DataError where it cannot be read."""
    try:
        with safe_open(file, "pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return found, (opened.metadata() or {}).get(BASE)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"cannot read the weights: {error}", where=file, expected=cure) from None


def settings(folder: Path) -> Settings:
    """Of the adapters in a model folder. DataError where the file is damaged."""
    file = folder / FOLDER / SETTINGS
    try:
        return Settings.model_validate(read_json(file, ("r", "lora_alpha")))
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"damaged: {'.'.join(map(str, fault['loc']))} is {shown(fault['input'])}",
            where=file, expected=fault["msg"],
        ) from None  # fmt: skip


def base_of(folder: Path) -> Path:
    """The model folder that adapters stand on. Its path is that of the run's making, from here or from a folder above
    the adapters, so that runs may be moved together. UsageError where it is gone."""
    told = settings(folder).base_model_name_or_path or ""
    if (found := find_base(folder, told)) is None:
        raise UsageError(
            f"{folder} holds adapters on {told or 'a base it does not name'}, and there is no model",
            where=folder / FOLDER / SETTINGS,
            expected="the base at its place; of one that was moved, its path as base_model_name_or_path",
        )  # fmt: skip
    return found


def find_base(folder: Path, told: str) -> Path | None:
    """Where a base is; None where it is gone."""
    places = [Path(told), *(above / told for above in folder.resolve().parents)] if told else []
    others = (place for place in places if place.resolve() != folder.resolve())
    return next((place for place in others if (place / "config.json").exists()), None)


def _refuse_other_base(folder: Path, base: Path, meant: str | None, found: str) -> None:
    """UsageError where adapters were trained beside other weights than these."""
    if meant != found:
        raise UsageError(
            f"the adapters in {folder} were trained on other weights than {base} has now",
            where=folder / FOLDER / SETTINGS,
            expected=f"a base with the fingerprint {meant}; that of {base} is {found}",
        )  # fmt: skip


def _added(base: dict[str, Tensor], own: dict[str, Tensor], about: Settings) -> dict[str, Tensor]:
    """A base's weights with those of its own in their place, and what adapters have learned added."""
    found = base | {name: tensor for name, tensor in own.items() if ".lora_" not in name}
    for layer in [name.removesuffix(_A) for name in own if name.endswith(_A)]:
        name, a = f"{layer}.weight", own[layer + _A]
        across = about.fan_in_fan_out and name in base  # of GPT-2, whose dense layers lie the other way round
        weight = found[name].T if across else found[name]
        scale = about.alpha_pattern.get(layer, about.lora_alpha) / len(a)
        whole = learned(weight, a, own[layer + _B], scale, own.get(layer + _MAGNITUDE))
        found[name] = whole.T.contiguous() if across else whole
    return found


def learned(weight: Tensor, a: Tensor, b: Tensor, scale: float, magnitude: Tensor | None = None) -> Tensor:
    """W + scale · BA of a dense layer [out, in] or a convolution [out, in, h, w], A [rank, in, …], B [out, rank, …];
    with a `magnitude` for each output, rows of that norm (DoRA)."""
    whole = weight + (b.flatten(1) @ a.flatten(1)).view_as(weight) * scale
    if magnitude is None:
        return whole
    factor = magnitude.flatten() / torch.linalg.norm(whole.flatten(1), dim=1)
    return whole * factor.view(-1, *[1] * (whole.ndim - 1))
