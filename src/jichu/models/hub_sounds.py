"""Published checkpoints of `transformers` that hear sounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jichu.core.errors import UsageError
from jichu.core.files import read_json

from .library import quiet
from .published import parsed, pretrained
from .transformers_audio import OURS, TransformersAudio, from_config

# Kinds that hear waves; every one of them is tested.
MODEL_TYPES = ("data2vec-audio", "hubert", "unispeech-sat", "wav2vec2", "wavlm")


def load(folder: Path, about: dict[str, Any], rate: int, samples: int) -> TransformersAudio:
    """The backbone of a checkpoint. UsageError where it was trained on another rate."""
    trained = _rate(folder)
    if trained is not None and trained != rate:
        raise UsageError(
            f"{folder} was trained on sounds at {trained:,} Hz, and these are at {rate:,}",
            where="data.rate", expected=trained,
        )  # fmt: skip
    config = parsed(about, MODEL_TYPES, folder / "config.json", **OURS)
    with quiet() as library:
        kind = library.MODEL_MAPPING[type(config)]
    module, _ = pretrained(folder, config, kind, {}, lambda: from_config(config))
    backbone = TransformersAudio(module, samples)
    backbone.saved_config = json.loads(module.config.to_json_string(use_diff=False))
    return backbone


def build(config: dict[str, Any], samples: int) -> TransformersAudio:
    """The same with fresh weights, from what an earlier load said of it."""
    return TransformersAudio(from_config(parsed(config, MODEL_TYPES, "config.json", **OURS)), samples)


def _rate(folder: Path) -> int | None:
    file = folder / "preprocessor_config.json"
    found = read_json(file, ()).get("sampling_rate") if file.exists() else None
    return found if isinstance(found, int) else None
