"""A model in a folder: `model.safetensors` (plain tensors by name) and `config.json` (how to build it)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json, replacing, write_json
from jichu.core.names import construct, import_path
from jichu.data.decode import Preprocess

from . import BACKBONES, HEADS
from .backbone import Backbone, ModuleBackbone
from .model import Model, Normalize

_OWN = "(given in Python)"


@dataclass
class ModelConfig:
    """Everything needed to build a model but its weights; what `config.json` holds."""

    backbone: dict[str, Any]
    preprocess: Preprocess
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)

    def build(self, backbone: nn.Module | None = None) -> Model:
        """The model with fresh weights; `backbone` is a user's own module, already made."""
        channels, size = self.preprocess.channels, self.preprocess.size
        made = backbone if backbone is not None else self._backbone()
        body = made if isinstance(made, Backbone) else ModuleBackbone(made, channels, size)
        heads = {
            name: construct("head", Spec(**spec), HEADS, where=f"head {name}", of=nn.Module, width=body.width,
                            outputs=len(self.classes))()
            for name, spec in self.heads.items()
        }  # fmt: skip
        return Model(body, heads, Normalize(torch.zeros(channels), torch.ones(channels)))

    def _backbone(self) -> nn.Module:
        spec = Spec(**self.backbone)
        if spec.arguments.get("from") == _OWN:
            raise UsageError(
                f"this model's backbone is {spec.name}, which was given as an object",
                expected="the same module as backbone=…",
            )
        p = self.preprocess
        return construct(
            "backbone", spec, BACKBONES, where="backbone", of=nn.Module, channels=p.channels, size=p.size
        )()


def own_backbone(module: nn.Module) -> dict[str, Any]:
    """The `backbone` entry of a model around a module that we did not build."""
    return {"name": import_path(module), "from": _OWN}


def save(folder: Path, model: Model, config: ModelConfig) -> None:
    """Write a model; weights first, so that a folder with `config.json` is whole."""
    # clone: tied weights share memory, which safetensors refuses
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    write_json(folder / "config.json", {**asdict(config), "preprocess": config.preprocess._asdict()})


def read_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder."""
    if not (folder / "config.json").exists():
        raise UsageError(f"no model in {folder}", expected="config.json and model.safetensors")
    about = read_json(folder / "config.json")
    try:
        return ModelConfig(**{**about, "preprocess": Preprocess(**about["preprocess"])})
    except (TypeError, KeyError) as error:
        raise DataError(f"not a model's configuration: {error}", where=folder / "config.json") from None


def load(folder: Path, backbone: nn.Module | None = None) -> tuple[Model, ModelConfig]:
    """A saved model in evaluation mode, and its configuration."""
    config = read_config(folder)
    model = config.build(backbone)
    load_weights(model, folder)
    return model.eval(), config


def load_weights(model: nn.Module, folder: Path, prefix: str = "") -> None:
    """Load the tensors whose names begin with `prefix`; each must be there and fit."""
    file = folder / "model.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the weights: {error}", where=file) from None
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    for name, tensor in own.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = list(tensors[name].shape) if name in tensors else "nothing"
            raise UsageError(
                f"the weights do not fit: {name} is {found}", where=file, expected=list(tensor.shape)
            )
    model.load_state_dict({name: tensors[name] for name in own}, strict=False)
