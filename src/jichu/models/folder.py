"""A model in a folder: `model.safetensors` (plain tensors by name) and `config.json` (how to build it)."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jichu.core.config import Spec, check
from jichu.core.errors import DataError, JichuError, UsageError, shown
from jichu.core.files import read_json, replacing, write_json
from jichu.core.names import construct, import_path, resolve
from jichu.data.config import IN_MEMORY, DataConfig
from jichu.data.decode import Preprocess
from jichu.data.schema import LABEL, TableSchema
from jichu.data.target import Target

from . import BACKBONES, HEADS
from .backbone import Backbone, ModuleBackbone
from .classical import Estimated
from .inputs import Inputs
from .model import Model

_OWN = "(given in Python)"
_KEYS = ("backbone", "image", "table", "heads", "targets", "scaled")


@dataclass
class ModelConfig:
    """Everything needed to build a model but its weights; what `config.json` holds."""

    backbone: dict[str, Any]
    image: Preprocess | None = None
    table: TableSchema | None = None
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    # the size to which the model scales its images, where it is another than theirs
    scaled: Annotated[int, Field(ge=1, le=4096)] | None = None

    @property
    def classes(self) -> list[str]:
        """The names of the first target's classes."""
        return list(self.targets[LABEL].classes) if LABEL in self.targets else []

    def shape(self) -> dict[str, Any]:
        """What a backbone is told of the inputs."""
        known: dict[str, Any] = {}
        if self.image is not None:
            known |= {"channels": self.image.channels, "size": self.scaled or self.image.size}
        if self.table is not None:
            known |= {"numbers": len(self.table.number_names), "categories": self.table.sizes}
        return known

    def build(self, backbone: nn.Module | None = None) -> Model:
        """The model with fresh weights; `backbone` is a user's own module, already made."""
        shape = self.shape()
        made = backbone if backbone is not None else self._backbone(shape)
        if not isinstance(made, Backbone):
            if self.image is None:
                raise UsageError(
                    f"{type(made).__name__} is taken to read images, and these data have none",
                    expected="a jichu.Backbone, which reads the whole batch",
                )
            made = ModuleBackbone(made, shape["channels"], shape["size"])
        heads = {}
        for name, spec in self.heads.items():
            target = self.targets[name]
            given = {"width": made.width, "outputs": target.outputs, "task": target.task,
                     "quantiles": target.quantiles, "categorical": getattr(made, "categorical", None)}  # fmt: skip
            heads[name] = construct(
                "head",
                check(Spec, spec, where=f"head {name}"),
                HEADS,
                where=f"head {name}",
                of=nn.Module,
                **given,
            )()
        reads: dict[str, Any] = {
            name: shape.get(name) for name in ("channels", "numbers", "categories") if shape.get(name)
        }
        return Model(made, heads, Inputs(**reads, scaled=self.scaled))

    def _backbone(self, shape: dict[str, Any]) -> nn.Module:
        spec = check(Spec, self.backbone, where="backbone")
        if spec.arguments.get("from") == _OWN:
            raise UsageError(
                f"this model's backbone is {spec.name}, which was given as an object",
                expected="the same module as backbone=…",
            )
        return construct("backbone", spec, BACKBONES, where="backbone", of=nn.Module, **shape)()


_CHECKER = TypeAdapter(ModelConfig)


_READ_BY = {"image": {"channels", "size"}, "table": {"numbers", "categories"}}


def reads(spec: Spec) -> tuple[set[str], set[str]]:
    """Which of `image` and `table` a backbone needs, and which it can take."""
    parameters = inspect.signature(resolve("backbone", spec.name, BACKBONES, where="backbone")).parameters
    takes = {kind for kind, names in _READ_BY.items() if names & set(parameters)}
    needs = {
        kind for kind in takes
        if any(p.default is p.empty for n, p in parameters.items() if n in _READ_BY[kind])
    }  # fmt: skip
    return needs, takes


def inputs_for(spec: Spec, available: set[str], where: str = "") -> set[str]:
    """Which of the `available` kinds of input a backbone is to read. UsageError, with the backbones that
    fit, where it needs another."""
    needs, takes = reads(spec)
    if not takes:  # a class of the user's that reads what it likes
        return available
    if not needs <= available or not takes & available:
        wanted = " and ".join(sorted(needs or takes))
        fit = [name for name in BACKBONES if ":" not in name and _fits(name, available)]
        raise UsageError(
            f"the backbone {spec.name} reads {wanted} data, and these are {' and '.join(sorted(available))} data",
            where=where or None, expected=f"one of {', '.join(fit)}",
        )  # fmt: skip
    return needs or {"image" if "image" in takes & available else "table"}


def _fits(name: str, available: set[str]) -> bool:
    try:
        needs, takes = reads(Spec(name=name))
    except (UsageError, ImportError):  # an optional library is missing
        return False
    return needs <= available and bool(takes & available)


def own_backbone(module: nn.Module) -> dict[str, Any]:
    """The `backbone` entry of a model around a module that we did not build."""
    return {"name": import_path(module), "from": _OWN}


def save(folder: Path, model: Model, config: ModelConfig) -> None:
    """Write a model; weights first, so that a folder with `config.json` is whole."""
    # clone: tied weights share memory, which safetensors refuses
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with replacing(folder / "model.safetensors", size) as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    about = {**asdict(config), "image": config.image and config.image._asdict()}
    if made := getattr(model.backbone, "saved_config", None):  # built again without asking the hub
        about["backbone"] = {**about["backbone"], "config": made}
    write_json(folder / "config.json", about)


def read_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder."""
    if not (folder / "config.json").exists():
        raise UsageError(f"no model in {folder}", expected="config.json and model.safetensors")
    file = folder / "config.json"
    about = read_json(file, _KEYS)
    try:
        config = _CHECKER.validate_python(about)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()[:3]]
        raise DataError(f"not a model's configuration: {'; '.join(faults)}", where=file) from None
    if config.image:
        check(DataConfig, {"path": IN_MEMORY, **config.image._asdict()}, where=f"{file}:image")
    if missing := set(config.heads) - set(config.targets):
        raise DataError(f"a head for {shown(min(missing))}, and no such target", where=file)
    return config


def load(folder: Path, backbone: nn.Module | None = None) -> tuple[Model, ModelConfig]:
    """A saved model in evaluation mode, and its configuration. DataError where it cannot be built."""
    config = read_config(folder)
    try:
        if backbone is None:
            _refuse_unfit(config, folder)
        model = config.build(backbone)
    except JichuError:
        raise
    except Exception as error:  # of arguments that fit one by one and not together
        told = shown(str(error).split("\n")[0])
        raise DataError(f"no model can be built as it says: {told}", where=folder / "config.json") from None
    load_weights(model, folder)
    return model.eval(), config


def _refuse_unfit(config: ModelConfig, folder: Path) -> None:
    """What the weights do not fit is found before it takes memory."""
    try:
        with torch.device("meta"):
            model = config.build()
    except RuntimeError:  # a network of the user's own that needs values to be built
        return
    _fitting(model, folder)


def load_weights(model: nn.Module, folder: Path, prefix: str = "") -> None:
    """Load the tensors whose names begin with `prefix`; each must be there and fit."""
    model.load_state_dict(_fitting(model, folder, prefix), strict=False)


def _fitting(model: nn.Module, folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """The saved tensors whose names begin with `prefix`. UsageError where one is missing or does not fit."""
    file = folder / "model.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot read the weights: {error}", where=file,
            expected="the file as it was written; without it --resume runs its stage again",
        ) from None  # fmt: skip
    for module_name, module in model.named_modules():
        if isinstance(module, Estimated) and module_name.startswith(prefix):
            start = f"{module_name}."
            module.adopt({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    for name, tensor in own.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = list(tensors[name].shape) if name in tensors else "nothing"
            raise UsageError(
                f"the weights do not fit: {name} is {found}", where=file, expected=list(tensor.shape)
            )
    return {name: tensors[name] for name in own}
