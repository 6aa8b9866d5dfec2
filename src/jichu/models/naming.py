"""The layout of Hugging Face for language models: what our tensors are called there, and what stands in
`config.json`, so that `AutoModel…from_pretrained` gives the same outputs."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from jichu.data.target import Target

from .changes import is_changed
from .heads import Linear
from .library import quiet
from .model import Model
from .transformers_text import TransformersText, readouts

_LABELS = ("id2label", "label2id", "problem_type", "num_labels")
_PROBLEMS = {
    "classification": "single_label_classification", "multilabel": "multi_label_classification",
    "regression": "regression",
}  # fmt: skip


def has_layout(model: nn.Module) -> bool:
    """Whether a model can be written so: the library does not build what was cut or factored."""
    backbone = getattr(model, "backbone", None)
    return isinstance(backbone, TransformersText) and not is_changed(backbone)


def classifier(model: Model) -> str | None:
    """The head that the library's classifier of this kind has, if the model is just that."""
    backbone: Any = model.backbone
    fits = backbone.kind.linear and backbone.readout == readouts(backbone.config.model_type)[0]
    only = next(iter(model.heads), None)
    is_it = (
        fits
        and not backbone.language
        and len(model.heads) == 1
        and isinstance(model.heads[only or ""], Linear)
    )
    return only if is_it else None


def names(model: Model) -> dict[str, str]:
    """Of each tensor in the state dict its name in the file. In the library's layout of tied ones the first alone, and
    heads that the library does not know keep our names; else all are ours."""
    if not has_layout(model):
        return {name: name for name in model.state_dict()}
    backbone: Any = model.backbone
    head, prefix = classifier(model), f"{backbone.module.base_model_prefix}."
    if backbone.language or backbone.config.model_type == "t5":  # whose parts are not within another
        prefix = ""
    ours = {f"backbone.module.{name}": f"{prefix}{name}" for name in backbone.module.state_dict()}
    for name in model.state_dict():
        *_, layer, last = name.split(".")
        if name.startswith("backbone.pooler."):
            ours[name] = f"{backbone.kind.pooler}.{last}"
        elif head is not None and name == f"heads.{head}.{layer}.{last}":
            ours[name] = f"{backbone.kind.linear}.{last}"
        else:
            ours.setdefault(name, name)
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            del ours[name]
        seen.add(id(parameter))
    return ours


def about(model: Model, targets: dict[str, Target]) -> dict[str, Any]:
    """The library's part of `config.json`."""
    backbone: Any = model.backbone
    found = {k: v for k, v in json.loads(backbone.config.to_json_string()).items() if k not in _LABELS}
    kind = type(backbone.module).__name__
    if (head := classifier(model)) is not None:
        with quiet() as library:
            kind = library.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(backbone.config)].__name__
        found |= labels(targets[head])
    return dict(sorted({**found, "architectures": [kind], "dtype": "float32"}.items()))


def labels(target: Target) -> dict[str, Any]:
    """What the library's configuration says of what a classifier tells."""
    named = target.classes or tuple(map(str, target.quantiles)) or (target.column,)
    return {
        "id2label": dict(enumerate(named)), "label2id": {label: i for i, label in enumerate(named)},
        "problem_type": _PROBLEMS[target.task],
    }  # fmt: skip


def without_labels(about: dict[str, Any]) -> dict[str, Any]:
    """What of `config.json` the network is built from."""
    return {k: v for k, v in about.items() if k not in (*_LABELS, "architectures", "dtype", "jichu")}
