"""Published checkpoints that read texts, of `transformers`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from jichu.core.errors import UsageError
from jichu.data.special import Special

from .library import quiet
from .published import parsed, pretrained, tensor
from .transformers_text import KINDS, Readout, TransformersText, from_config, library_class, readouts


def load(
    folder: Path, about: dict[str, Any], vocabulary: int, context: int | None, special: Special | None,
    pair: bool,
    language: bool, readout: Readout | None,
) -> TransformersText:  # fmt: skip
    """The backbone of a checkpoint, for tokens of some vocabulary."""
    where = folder / "config.json"
    config = _parsed(about, where)
    with quiet() as library:
        kind, options = library_class(library, config, language)
    module, unused = pretrained(
        folder, copy.deepcopy(config), kind, options, lambda: from_config(config, language)
    )
    body = module.base_model
    inside = tuple(f"{name}." for name, _ in body.named_children() if name != "pooler")
    prefix = f"{body.base_model_prefix}."
    if extra := [name for name in unused if name.removeprefix(prefix).startswith(inside)]:
        raise UsageError(
            f"{len(extra)} tensors more than {config.model_type} has: {', '.join(extra[:3])}",
            where=folder, expected="weights of what config.json describes",
        )  # fmt: skip
    backbone = _around(module, config, vocabulary, context, special, pair, language, readout, where)
    if backbone.pooler is not None:
        places = (backbone.kind.pooler, f"{prefix}pooler.dense", "pooler.dense")
        for name, parameter in backbone.pooler.dense.named_parameters():
            found = tensor(folder, [f"{place}.{name}" for place in places])
            if found is None:
                continue  # of a model that was not asked for one, such as a language model
            if found.shape != parameter.shape:
                raise UsageError(
                    f"the weights do not fit: {places[0]}.{name} is {list(found.shape)}",
                    where=folder, expected=list(parameter.shape),
                )  # fmt: skip
            with torch.no_grad():
                parameter.copy_(found)
    backbone.saved_config = json.loads(config.to_json_string(use_diff=False))
    return backbone


def build(
    config: dict[str, Any], vocabulary: int, context: int | None, special: Special | None,
    pair: bool, language: bool,
    readout: Readout | None,
) -> TransformersText:  # fmt: skip
    """The same with fresh weights, from what an earlier load said of it."""
    about = _parsed(config, "config.json")
    module = from_config(copy.deepcopy(about), language)
    made = _around(module, about, vocabulary, context, special, pair, language, readout, "config.json")
    made.saved_config = config
    return made


def _parsed(about: dict[str, Any], where: object) -> Any:
    config = parsed(about, KINDS, where)
    if getattr(config, "activation_function", None) == "gelu_new":
        config.activation_function = "gelu_pytorch_tanh"  # the same function, in one kernel
    return config


def _around(
    module: Any, config: Any, vocabulary: int, context: int | None, special: Special | None,
    pair: bool, language: bool,
    readout: Readout | None, where: object,
) -> TransformersText:  # fmt: skip
    if vocabulary > config.vocab_size:
        raise UsageError(
            f"a tokenizer of {vocabulary:,} tokens, and the model knows {config.vocab_size:,}",
            where=where, expected="the tokenizer that the model was trained with",
        )  # fmt: skip
    readout = readout or readouts(config.model_type)[0]
    return TransformersText(module, readout, language, context, special, pair)
