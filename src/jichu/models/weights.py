"""Pretrained tensors into a classic network, by name: files with torchvision's names or with timm's."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from jichu.core.errors import DataError, UsageError, nearest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PREFIXES = ("module.", "model.", "backbone.", "encoder.")
_INSIDE = ("state_dict", "model", "model_state_dict")  # where training scripts keep the tensors
_COUNTER = "num_batches_tracked"  # older files have none; it matters to no output


class Loaded(NamedTuple):
    """What came of a file: how many tensors were loaded, those it lacks that may be lacking, and those of
    it that were not used, such as a classifier's head."""

    tensors: int
    missing: list[str]
    unexpected: list[str]


def load_pretrained(backbone: nn.Module, path: str | Path) -> Loaded:
    """Load every tensor of a backbone from a `.safetensors`, `.pth` or `.pt` file trained on ImageNet, and
    tell it the pixel statistics that go with them: `image_mean`, `image_std`, `image_size`.

    UsageError where the backbone is another than the file's; DataError where the file cannot be read.
    """
    found = load_tensors(backbone, read_tensors(path), path)
    mean = getattr(backbone, "image_mean", None) or IMAGENET_MEAN
    std = getattr(backbone, "image_std", None) or IMAGENET_STD
    set_statistics(backbone, mean, std, getattr(backbone, "image_size", None) or 224)
    return found


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a file. Nothing in it is run: of a pickle only tensors are made. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no file {path}", expected="weights as .safetensors, .pth or .pt")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            "holds more than tensors, and loading that could run code",
            where=path,
            expected="a state dict: torch.save(model.state_dict(), …), or .safetensors",
        ) from None
    except Exception as error:  # of a damaged file torch raises whatever its parts lead to
        raise DataError(
            f"cannot read the weights: {error or 'the file ends too early'}", where=path
        ) from None
    for key in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError("not a state dict", where=path, expected="tensors by name")
    return dict(content)


def load_tensors(backbone: nn.Module, tensors: dict[str, Tensor], where: object) -> Loaded:
    """Load every tensor of the backbone by name; refuse where one is missing or has another shape.

    A first convolution for colour given to a backbone for grey is summed over its channels: the answer to
    a grey image is that to the same image in colour.
    """
    own = backbone.state_dict()
    found = dict(_torchvision(name, tensor, own) for name, tensor in tensors.items())
    missing = [name for name in own if name not in found]
    _refuse_missing([n for n in missing if not n.endswith(_COUNTER)], found, len(own), where)
    taken = {name: _summed(found[name], tensor) for name, tensor in own.items() if name in found}
    for name, tensor in taken.items():
        if tensor.shape != own[name].shape:
            raise UsageError(
                f"the weights do not fit: {name} is {list(tensor.shape)}",
                where=where,
                expected=f"{list(own[name].shape)}, or the backbone as it was trained (of a ResNet, stem: large)",
            )
    backbone.load_state_dict(taken, strict=False)
    return Loaded(len(taken), missing, [name for name in found if name not in own])


def set_statistics(backbone: nn.Module, mean: Iterable[float], std: Iterable[float], size: int) -> None:
    """Tell a backbone the pixel statistics it was trained with, of pixels from 0 to 1. For grey images
    they are the mean of the three colours'."""
    mean, std = tuple(mean), tuple(std)
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    # plain attributes: not part of the state dict, and taken along by a copy
    vars(backbone).update(image_mean=mean, image_std=std, image_size=size)


def _torchvision(name: str, tensor: Tensor, own: dict[str, Tensor]) -> tuple[str, Tensor]:
    """The name (and for VGG's dense layers, which are convolutions in timm, the shape) in torchvision."""
    while name not in own and (prefix := next((p for p in _PREFIXES if name.startswith(p)), None)):
        name = name.removeprefix(prefix)
    # DenseNet's published files have `norm.1` where its modules are named `norm1`
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
    if dense := re.fullmatch(r"pre_logits\.fc([12])\.(\w+)", name):
        name = f"classifier.{0 if dense[1] == '1' else 3}.{dense[2]}"
        tensor = tensor.flatten(1) if tensor.ndim == 4 else tensor
    return name, tensor


def _summed(tensor: Tensor, own: Tensor) -> Tensor:
    grey = own.ndim == tensor.ndim == 4 and own.shape[1] == 1 and tensor.shape[1] == 3
    return tensor.sum(1, keepdim=True) if grey and own.shape[0] == tensor.shape[0] else tensor


def _refuse_missing(missing: list[str], found: Iterable[str], total: int, where: object) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
    raise UsageError(
        f"the weights lack {len(missing)} of the backbone's {total} tensors: {shown}",
        where=where,
        expected="weights of this very architecture, with the names of torchvision or timm",
        nearest=nearest(missing[0], found),
    )
