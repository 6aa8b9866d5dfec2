"""Pretrained backbones by name: `hf:owner/name`, `hf:owner/name@revision`, `hf:./folder`.

A name is looked for in a local folder, or in the local cache and then on the Hugging Face Hub. Only JSON,
safetensors and the text files of tokenizers are fetched, and nothing in them is run. What looks at images is
in `hub_images`, what hears sounds in `hub_sounds`, what reads texts in `hub_texts`.
"""

from __future__ import annotations

from typing import Any, Literal

from jichu.core.errors import DataError, JichuError, UsageError, shown
from jichu.data.special import Special

from . import hub_images, hub_sounds, hub_texts
from .backbone import Backbone
from .fetch import find
from .published import configuration, refuse_damaged
from .transformers_text import KINDS


def load(
    name: str,
    channels: int | None = None,
    size: int | None = None,
    vocabulary: int | None = None,
    context: int | None = None,
    special: Special | None = None,
    pair: bool = False,
    language: bool = False,
    rate: int | None = None,
    samples: int | None = None,
    readout: Literal["pooler", "cls", "mean", "last"] | None = None,
    config: dict[str, Any] | None = None,
) -> Backbone:
    """The backbone behind an `hf:` name, for images of some channels and size, for sounds of some rate and length, or for
    tokens of some vocabulary.

    Of images `image_mean`, `image_std` and `image_size` say what it was trained on, where the checkpoint
    does; for grey ones the first convolution is summed over its colours, as timm does. `saved_config` is
    all that is needed to build it again: with `config`, which is that of an earlier load, it is built with
    fresh weights and neither folder nor hub is asked: the weights are in the model folder.
    """
    if config is not None:
        if vocabulary is not None:
            return hub_texts.build(config, vocabulary, context, special, pair, language, readout)
        if samples is not None:
            return hub_sounds.build(config, samples)
        return hub_images.build(config, *_images(channels, size, readout))
    folder = find(name.removeprefix("hf:"))
    about = configuration(folder)
    if vocabulary is None and about.get("model_type") in KINDS:
        raise UsageError(f"{name} is a {about['model_type']}, which reads texts", expected="data with texts")
    refuse_damaged(folder)
    try:
        if vocabulary is not None:
            return hub_texts.load(folder, about, vocabulary, context, special, pair, language, readout)
        if rate is not None and samples is not None:
            return hub_sounds.load(folder, about, rate, samples)
        return hub_images.load(folder, about, *_images(channels, size, readout))
    except JichuError:
        raise
    except Exception as error:  # of values that are wrong together the libraries raise whatever they lead to
        told = shown(str(error).split("\n")[0])
        raise DataError(f"no backbone can be made as its files say: {told}", where=folder) from None


def _images(channels: int | None, size: int | None, readout: str | None) -> tuple[int, int, Any]:
    if channels is None or size is None:
        raise UsageError("a checkpoint reads images, sounds or texts", expected="what of these there is")
    if readout not in ("cls", "mean", None):
        raise UsageError(f"a network of images has no readout {readout}", expected="cls or mean")
    return channels, size, readout or "cls"


def trained_size(name: str) -> int | None:
    """The side of the images that the checkpoint behind an `hf:` name was trained on, where it says it."""
    folder = find(name.removeprefix("hf:"))
    return hub_images.trained_size(folder, configuration(folder))
