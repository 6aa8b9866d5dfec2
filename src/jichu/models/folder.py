"""A model in a folder: `model.safetensors` (plain tensors by name) and `config.json` (how to build it).

A language model of `transformers` is in the layout of Hugging Face: names and configuration are the library's,
and what is ours stands under `jichu`. In the place of weights there may be adapters on those of another folder.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from jichu.constraints.rulebook import Rulebook
from jichu.core.config import Spec, check
from jichu.core.errors import DataError, JichuError, UsageError, shown
from jichu.core.files import read_json, replacing, write_json
from jichu.core.names import construct, import_path, resolve
from jichu.data.config import IN_MEMORY, DataConfig, SpectrogramConfig
from jichu.data.decode import Preprocess
from jichu.data.schema import LABEL, TableSchema
from jichu.data.sound import Sound
from jichu.data.special import TextInputs
from jichu.data.spectrum import frames
from jichu.data.target import Target
from jichu.data.windows import SeriesInputs

from . import BACKBONES, HEADS, adapters, changes, naming, ranges
from .backbone import Backbone, ModuleBackbone
from .classical import Estimated
from .inputs import Inputs
from .model import Model
from .series import Series
from .spectrogram import Spectrogram, Waves

_OWN = "(given in Python)"
LANGUAGE = "language"  # the head of a language model, which has no target
# what a backbone tells its heads: by which attribute, and what holds where it says nothing
_TOLD = {"categorical": ("categorical", None), "counts": ("counts", False), "bias": ("head_bias", True)}
# what a backbone may be told of its inputs (`ModelConfig.shape`)
OF_INPUTS = (
    "channels", "size", "height", "rate", "samples", "steps", "columns", "targets", "numbers", "categories", "vocabulary", "context", "special",
    "pair", "language",
)  # fmt: skip
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
    text: TextInputs | None = None
    audio: Sound | None = None
    # how sounds become pictures, for a backbone that looks at such
    spectrogram: SpectrogramConfig | None = None
    series: SeriesInputs | None = None
    rules: Rulebook | None = None  # that its answers are to keep
    pictured: bool = False  # whether series are shown as pictures [1, steps, columns]
    changes: list[dict[str, Any]] = field(default_factory=list)  # of the backbone, after it was built
    ranges: list[str] = field(default_factory=list)  # layers whose inputs are rounded to 8 bits

    @property
    def kind(self) -> str:
        """What it reads, as data sets call it."""
        return next(
            (k for k in ("image", "audio", "series", "text") if getattr(self, k) is not None), "table"
        )

    @property
    def classes(self) -> list[str]:
        """The names of the first target's classes."""
        return list(self.targets[LABEL].classes) if LABEL in self.targets else []

    @property
    def language(self) -> bool:
        """Whether it has the head of a language model."""
        return any(head.get("name") == LANGUAGE for head in self.heads.values())

    def shape(self) -> dict[str, Any]:
        """What a backbone is told of the inputs."""
        known: dict[str, Any] = {}
        if self.image is not None:
            known |= {"channels": self.image.channels, "size": self.scaled or self.image.size}
        if self.audio is not None and self.spectrogram is not None:
            known |= {"channels": 1, "size": self.spectrogram.mels}
            known["height"] = frames(self.audio, self.spectrogram)
        elif self.audio is not None:
            known |= self.audio._asdict()
        if self.series is not None:
            steps, columns = self.series.steps, len(self.series.columns)
            seen = {"channels": 1, "size": columns, "height": steps}
            known |= seen if self.pictured else {"steps": steps, "columns": columns}
            known["targets"] = self.series.targets
        if self.table is not None:
            known |= {"numbers": len(self.table.number_names), "categories": self.table.sizes}
        if self.text is not None:
            known |= {name: getattr(self.text, name) for name in ("vocabulary", "context", "special", "pair")}
            known["language"] = self.language
        return known

    def build(self, backbone: nn.Module | None = None) -> Model:
        """The model with fresh weights; `backbone` is a user's own module, already made."""
        shape = self.shape()
        made = backbone if backbone is not None else self._backbone(shape)
        if not isinstance(made, Backbone):
            if "channels" not in shape:
                raise UsageError(
                    f"{type(made).__name__} is taken to read images, and these data have none",
                    expected="a jichu.Backbone, which reads the whole batch",
                )
            made = ModuleBackbone(made, shape["channels"], shape["size"])
        changes.rebuild(made, self.changes)
        heads = {}
        for name, spec in self.heads.items():
            where = f"head {name}"
            checked = check(Spec, spec, where=where)
            given: dict[str, Any] = {"width": made.width, "backbone": made}
            given |= {key: getattr(made, *told) for key, told in _TOLD.items()}
            if name in self.targets:
                target = self.targets[name]
                given |= {"outputs": target.outputs, "task": target.task, "quantiles": target.quantiles}
                given |= {"series": self.series, "steps": target.steps}
            _refuse_counts(checked, made, where)
            heads[name] = construct("head", checked, HEADS, where=where, of=nn.Module, **given)()
        reads: dict[str, Any] = {
            name: shape.get(name) for name in ("numbers", "categories") if shape.get(name)
        }
        if self.image is not None:
            reads["channels"] = self.image.channels
        if self.series is not None:
            reads["series"] = Series(self.series, self.pictured, getattr(made, "levelled", True))
        model = Model(made, heads, Inputs(**reads, scaled=self.scaled, audio=self._hearing()))
        ranges.watch(model, self.ranges)
        return model

    def _hearing(self) -> nn.Module | None:
        """What sounds become before the backbone sees them."""
        if self.audio is None:
            return None
        return Spectrogram(self.audio, self.spectrogram) if self.spectrogram else Waves(self.audio)

    def _backbone(self, shape: dict[str, Any]) -> nn.Module:
        spec = check(Spec, self.backbone, where="backbone")
        if spec.arguments.get("from") == _OWN:
            raise UsageError(
                f"this model's backbone is {spec.name}, which was given as an object",
                expected="the same module as backbone=…",
            )
        return construct("backbone", spec, BACKBONES, where="backbone", of=nn.Module, **shape)()


def _refuse_counts(head: Spec, backbone: Backbone, where: str) -> None:
    kind = resolve("head", head.name, HEADS, where=where)
    if getattr(backbone, "counts", False) and not getattr(kind, "takes_counts", True):
        raise UsageError(
            f"{head.name} does not look at the counts of a bag of words", where=where,
            expected="logistic-regression, naive-bayes, ridge or linear",
        )  # fmt: skip


_CHECKER = TypeAdapter(ModelConfig)


_READ_BY = {
    # before images: of what can be shown as pictures too
    "audio": {"rate", "samples"},
    "series": {"steps", "columns"},
    "image": {"channels", "size"},
    "text": {"vocabulary"},
    "table": {"numbers", "categories"},
}


def reads(spec: Spec) -> tuple[set[str], set[str]]:
    """Which of `image`, `audio`, `series`, `text` and `table` a backbone needs, and which it can take."""
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
        there = available - {"image"} if available & {"audio", "series"} else available
        raise UsageError(
            f"the backbone {spec.name} reads {wanted} data, and these are {' and '.join(sorted(there))} data",
            where=where or None, expected=f"one of {', '.join(fit)}",
        )  # fmt: skip
    return needs or {next(kind for kind in _READ_BY if kind in takes & available)}


def _fits(name: str, available: set[str]) -> bool:
    try:
        needs, takes = reads(Spec(name=name))
    except (UsageError, ImportError):  # an optional library is missing
        return False
    return needs <= available and bool(takes & available)


def own_backbone(module: nn.Module) -> dict[str, Any]:
    """The `backbone` entry of a model around a module that we did not build."""
    return {"name": import_path(module), "from": _OWN}


class Kept(Protocol):
    """What writes its own files into a model's folder, such as a tokenizer."""

    def save(self, folder: Path) -> None:
        """Write them."""


def save(
    folder: Path, model: Model, config: ModelConfig, tokenizer: Kept | None = None, *, weights: bool = True
) -> None:
    """Write a model; weights first, so that a folder with `config.json` is whole. Without `weights` where adapters
    on a base stand for them."""
    if weights:
        save_weights(folder, model)
    else:
        (folder / adapters.WEIGHTS).unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)
    media = {name: getattr(config, name) for name in ("image", "audio")}
    about = {**asdict(config), **{name: how and how._asdict() for name, how in media.items()}}
    if config.spectrogram is not None:
        about["spectrogram"] = config.spectrogram.model_dump()
    if config.text is not None:
        about["text"]["special"] = config.text.special._asdict()
    about = {key: value for key, value in about.items() if value not in (None, []) or key in _KEYS}
    if naming.has_layout(model):
        about["backbone"].pop("config", None)  # stands beside
        about = {**naming.about(model, config.targets), "jichu": about}
    elif made := getattr(model.backbone, "saved_config", None):  # built again without asking the hub
        about["backbone"] = {**about["backbone"], "config": made}
    write_json(folder / "config.json", about)


def save_weights(folder: Path, model: Model) -> None:
    """Write the weights of a model whose `config.json` stands there, or is to."""
    state = model.state_dict()
    if adapted := next((name for name in state if ".lora_A." in name), None):
        raise UsageError(
            f"{adapted} stands beside its weight", expected="jichu.adapt.lora.merge(model) first"
        )
    named = naming.names(model)
    # clone: tied weights share memory, which safetensors refuses
    tensors = {theirs: state[ours].detach().cpu().contiguous().clone() for ours, theirs in named.items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with replacing(folder / adapters.WEIGHTS, size) as temporary:
        save_file(tensors, temporary, {"format": "pt"})


def read_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder."""
    if not (folder / "config.json").exists():
        raise UsageError(f"no model in {folder}", expected="config.json and model.safetensors")
    file = folder / "config.json"
    about = read_json(file, ())
    if isinstance(about.get("jichu"), dict):
        ours = about["jichu"]
        backbone = ours.get("backbone")
        if isinstance(backbone, dict) and str(backbone.get("name")).startswith("hf:"):
            backbone["config"] = naming.without_labels(about)
        about = ours
    elif not all(key in about for key in _KEYS):
        read_json(file, _KEYS)  # which says what is not there
    try:
        config = _CHECKER.validate_python(about)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()[:3]]
        raise DataError(f"not a model's configuration: {'; '.join(faults)}", where=file) from None
    if config.image:
        check(DataConfig, {"path": IN_MEMORY, **config.image._asdict()}, where=f"{file}:image")
    if config.audio:
        sound = {"rate": config.audio.rate, "seconds": config.audio.samples / max(1, config.audio.rate)}
        check(DataConfig, {"path": IN_MEMORY, **sound}, where=f"{file}:audio")
    headless = {name for name, head in config.heads.items() if head.get("name") != LANGUAGE} - set(
        config.targets
    )
    if headless:
        raise DataError(f"a head for {shown(min(headless))}, and no such target", where=file)
    return config


def load(folder: Path, backbone: nn.Module | None = None) -> tuple[Model, ModelConfig]:
    """A saved model in evaluation mode, and its configuration. DataError where it cannot be built."""
    config, tensors = read_config(folder), adapters.tensors(folder)
    try:
        if backbone is None:
            _refuse_unfit(config, tensors, folder)
        model = config.build(backbone)
    except JichuError:
        raise
    except Exception as error:  # of arguments that fit one by one and not together
        told = shown(str(error).split("\n")[0])
        raise DataError(f"no model can be built as it says: {told}", where=folder / "config.json") from None
    model.load_state_dict(_fitting(model, tensors, folder), strict=False)
    return model.eval(), config


def _refuse_unfit(config: ModelConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """What the weights do not fit is found before it takes memory."""
    try:
        with torch.device("meta"):
            model = config.build()
    except RuntimeError:  # a network of the user's own that needs values to be built
        return
    _fitting(model, tensors, folder)


def take_over(model: Model, folder: Path) -> None:
    """Load backbone and inputs of another model; each tensor must be there and fit. What the other does not have stays
    as it is: the pooler of a language model, and the head of one where the other predicts no tokens."""
    fresh = {name for name in model.state_dict() if name.startswith("backbone.pooler.")}
    if getattr(model.backbone, "language", False) and not read_config(folder).language:
        anew = {f"backbone.{name}" for name in getattr(model.backbone, "beyond_body", ())}
        if not anew:
            raise UsageError(
                f"{folder} holds no language model, which is to be gone on with",
                expected="one that was trained to predict tokens; its backbone alone serves classifiers",
            )
        fresh |= anew
    tensors = adapters.tensors(folder)
    for prefix in ("backbone.", "inputs."):
        model.load_state_dict(_fitting(model, tensors, folder, prefix, fresh), strict=False)


def _fitting(
    model: Model, tensors: dict[str, Tensor], folder: Path, prefix: str = "", fresh: Collection[str] = ()
) -> dict[str, Tensor]:
    """Those of a folder's tensors whose names in the model begin with `prefix`. UsageError where one is missing, but for
    the `fresh`, or does not fit."""
    for module_name, module in model.named_modules():
        if isinstance(module, Estimated) and module_name.startswith(prefix):
            start = f"{module_name}."
            module.adopt({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
    state = model.state_dict()
    named = naming.names(model)
    found: dict[str, Tensor] = {}
    for ours, theirs in named.items():
        if not ours.startswith(prefix) or (ours in fresh and theirs not in tensors):
            continue
        if theirs not in tensors or tensors[theirs].shape != state[ours].shape:
            shape = list(tensors[theirs].shape) if theirs in tensors else "nothing"
            raise UsageError(
                f"the weights do not fit: {theirs} is {shape}", where=folder, expected=list(state[ours].shape)
            )
        found[ours] = tensors[theirs]
    return found
