"""Models that stand on one base, whose weights are in memory once."""

from __future__ import annotations

import importlib.util
import weakref
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jichu.models import adapters, naming
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.models.model import Model

from . import lora


class _Weights(dict[str, Tensor]):
    """By their names in the file."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Weights:
        return self  # a copy of a model stands on the same


class Bases:
    """Loads models: weights that are the same are the same memory, and adapters stay beside the weights of their base.
    What no model stands on any more is let go."""

    def __init__(self) -> None:
        self._kept: weakref.WeakValueDictionary[str, _Weights] = weakref.WeakValueDictionary()

    def load(self, folder: Path, backbone: nn.Module | None = None) -> tuple[Model, ModelConfig]:
        """As `jichu.models.folder.load`. Where adapters stay beside their layers what is computed is the same, and its last
        digits may not be; without the library `peft` they become part of the weights."""
        model, config = model_folder.load(folder, backbone)
        based = adapters.is_based(folder)
        if based and importlib.util.find_spec("peft") is None:
            return model, config
        weights = self._weights(adapters.base_of(folder) if based else folder)
        own = _copied(adapters.own(folder)) if based else {}
        parameters, named = dict(model.named_parameters()), naming.names(model)
        for name in parameters.keys() & named.keys():
            if named[name] in weights and named[name] not in own:
                parameters[name].data = weights[named[name]]
        if based:
            lora.lay_beside(model, own, adapters.settings(folder))
        model.stands_on = weights  # type: ignore[assignment]
        return model, config

    def _weights(self, folder: Path) -> _Weights:
        found = adapters.tensors(folder)
        name = adapters.fingerprint(found)
        if (kept := self._kept.get(name)) is None:
            kept = self._kept[name] = _Weights(_copied(found))
        return kept


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What was read is the file itself, in which another model may be put while this one is asked."""
    return {name: tensor.clone() for name, tensor in tensors.items()}
