"""The layout of Hugging Face: a folder that `AutoModel…from_pretrained` loads, with the library's own classifier where
the model is just that."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jichu.core.errors import UsageError
from jichu.core.files import write_json
from jichu.data.augment import to_float
from jichu.models import folder, naming
from jichu.models.heads import Linear
from jichu.models.inputs import Pixels
from jichu.models.library import quiet
from jichu.models.model import Model
from jichu.models.transformers_audio import TransformersAudio
from jichu.models.transformers_text import TransformersText
from jichu.models.transformers_vision import TransformersVision, model_class

from ..signature import ABOUT
from .base import Arrays, Batch, Subject
from .program import FEATURES, answer, output_of, watched

_PREPARED = "preprocessor_config.json"
_INSTEAD = "--to onnx, which holds any model"
_DECODER_START = "decoder_start_token_id"
_LUMA = (0.299, 0.587, 0.114)  # red, green and blue in grey, ITU-R 601


class HuggingFace:
    """A folder."""

    ending = ""

    def write(self, subject: Subject, path: Path) -> None:
        path.mkdir()
        _kind(subject).write(subject, path)
        write_json(path / ABOUT, subject.signature.plain())

    def read(self, path: Path, subject: Subject) -> Loaded:
        kind = _kind(subject)
        with quiet() as library:
            return Loaded(kind.load(library, path), kind, subject)


class _Kind(NamedTuple):
    """How models of one kind of input are written, loaded, and called: `call(library's model, batch, subject)`."""

    write: Callable[[Subject, Path], None]
    load: Callable[[Any, Path], Any]
    call: Callable[[Any, Batch, Subject], Any]


class Loaded:
    """The library's model, as it loads it."""

    def __init__(self, loaded: tuple[Any, Callable[[Batch], Batch]], kind: _Kind, subject: Subject):
        self.module, self.ready = loaded
        self.module.eval()
        self.kind, self.subject = kind, subject
        self.head = next(iter(subject.model.heads), None)

    def __call__(self, batch: Batch) -> Arrays:
        with torch.no_grad():
            if self.head is None:  # the features are read out of the library's bare model
                backbone: Any = copy.copy(self.subject.model.backbone)
                backbone._modules = {**backbone._modules, "module": self.module}
                return {FEATURES: backbone(self.ready(batch)).pooled.numpy()}
            with quiet():
                logits = self.kind.call(self.module, self.ready(batch), self.subject).logits
            targets = self.subject.config.targets
            return {output_of(self.head, targets): answer(targets.get(self.head), logits).numpy()}

    def layers(self, batch: Batch) -> Arrays:
        ours: Any = self.subject.model.backbone
        body = self.module if type(self.module) is type(ours.module) else self.module.base_model
        return {f"backbone.module.{name}": v for name, v in watched(body, lambda: self(batch)).items()}


def _kind(subject: Subject) -> _Kind:
    """UsageError where the library has no class for such a model."""
    backbone, heads = subject.model.backbone, subject.model.heads
    kinds: dict[type[nn.Module], _Kind] = {
        TransformersText: _Kind(_write_text, _load_text, _call_text),
        TransformersVision: _Kind(_write_images, _load_images, lambda m, b, _: m(pixel_values=b["image"])),
        TransformersAudio: _Kind(_write_sounds, _load_sounds, lambda m, b, _: m(b["audio"])),
    }
    kind = next((made for of, made in kinds.items() if isinstance(backbone, of)), None)
    if kind is None:
        raise _refused(f"the backbone {subject.config.backbone['name']}", "layer backbone")
    if isinstance(backbone, TransformersText):
        if heads and not backbone.language and naming.classifier(subject.model) is None:
            raise _refused(f"a {backbone.config.model_type} with such heads, read out by {backbone.readout}")
        if subject.config.text is not None and subject.config.text.windows > 1:
            raise _refused("texts that are read in windows")
        return kind
    if len(heads) > 1 or not all(isinstance(head, Linear) for head in heads.values()):
        raise _refused(
            f"the head {', '.join(spec['name'] for spec in subject.config.heads.values())}", "heads"
        )
    if subject.config.spectrogram is not None or subject.config.pictured:
        raise _refused("pictures made of sounds or series within the model", "layer inputs")
    if subject.config.scaled is not None:
        raise _refused("images scaled within the model", "layer inputs.image")
    return kind


def _refused(what: str, where: str | None = None) -> UsageError:
    return UsageError(f"transformers has no class for {what}", where=where, expected=_INSTEAD)


# --- texts


def _write_text(subject: Subject, path: Path) -> None:
    folder.save(path, subject.model, subject.config)
    assert subject.tokenizer is not None and subject.config.text is not None
    subject.tokenizer.save(path, subject.config.text.context)


def _load_text(library: Any, path: Path) -> tuple[Any, Callable[[Batch], Batch]]:
    config = library.AutoConfig.from_pretrained(path, local_files_only=True)
    kind = getattr(library, config.architectures[0])
    return kind.from_pretrained(path, local_files_only=True, dtype=torch.float32), lambda batch: batch


def _call_text(module: Any, batch: Batch, subject: Subject) -> Any:
    backbone: Any = subject.model.backbone
    tokens = batch["tokens"]
    mask = tokens >= 0
    if backbone.kind.task == "CausalLM" and backbone.language:
        return module(input_ids=tokens.clamp(min=0), use_cache=False)
    pad = module.config.pad_token_id or 0
    options: dict[str, Tensor] = {}
    if backbone.separator is not None:
        ends = tokens == backbone.separator
        options["token_type_ids"] = (ends.cumsum(1) - ends.long()).clamp(max=1) * mask
    if "answer" in batch:
        before = F.pad(batch["answer"][:, :-1], (1, 0), value=getattr(module.config, _DECODER_START))
        options["decoder_input_ids"] = before.masked_fill(before < 0, pad)
    seen = mask | (torch.arange(tokens.shape[1]) == 0)
    return module(input_ids=tokens.masked_fill(~mask, pad), attention_mask=seen.long(), **options)


# --- images


def _write_images(subject: Subject, path: Path) -> None:
    how, pixels = subject.config.image, cast(Pixels, subject.model.inputs["image"])
    assert how is not None
    backbone: Any = subject.model.backbone
    module = backbone.module if how.channels == 3 else _coloured(backbone.module)
    _write_classifier(subject, module, path, "ImageClassification", {})
    about = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": how.size, "width": how.size},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": pixels.mean.flatten().expand(3).tolist(), "image_std": pixels.std.flatten().expand(3).tolist(),
    }  # fmt: skip
    write_json(path / _PREPARED, about)


def _coloured(module: Any) -> Any:
    """A network for grey images as one for colours, which the library's pipelines make of all: its first layer weighs them
    as Pillow does where it makes a picture grey."""
    found = copy.deepcopy(module)
    found.config.num_channels = 3
    first = next(layer for layer in found.modules() if isinstance(layer, nn.Conv2d))
    first.weight = nn.Parameter(first.weight * torch.tensor(_LUMA).view(1, 3, 1, 1))
    return found


def _load_images(library: Any, path: Path) -> tuple[Any, Callable[[Batch], Batch]]:
    processor = library.AutoImageProcessor.from_pretrained(path, local_files_only=True)

    def ready(batch: Batch) -> Batch:
        images = list(batch["image"].expand(-1, 3, -1, -1).numpy())
        made = processor(images, return_tensors="pt", input_data_format="channels_first")
        return {"image": made["pixel_values"].float()}

    return _load(library, path), ready


# --- sounds


def _write_sounds(subject: Subject, path: Path) -> None:
    backbone: Any = subject.model.backbone
    width = {"classifier_proj_size": backbone.width, "use_weighted_layer_sum": False}
    assert subject.config.audio is not None
    _write_classifier(
        subject,
        backbone.module,
        path,
        "AudioClassification",
        width if hasattr(backbone.module.config, "classifier_proj_size") else {},
    )
    about = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "feature_size": 1, "padding_value": 0.0,
        "return_attention_mask": False, "sampling_rate": subject.config.audio.rate,
    }  # fmt: skip
    write_json(path / _PREPARED, about)


def _load_sounds(library: Any, path: Path) -> tuple[Any, Callable[[Batch], Batch]]:
    extractor = library.AutoFeatureExtractor.from_pretrained(path, local_files_only=True)

    def ready(batch: Batch) -> Batch:
        waves = list(to_float(batch["audio"]).numpy())
        made = extractor(waves, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        return {"audio": made["input_values"].float()}

    return _load(library, path), ready


# --- networks that are the library's, with a dense layer


def _write_classifier(subject: Subject, module: Any, path: Path, task: str, more: dict[str, Any]) -> None:
    """The bare model `module`, or the library's classifier around it."""
    model: Model = subject.model
    head = next(iter(model.heads), None)
    with quiet() as library:
        if head is None:
            module.save_pretrained(path)
            return
        config = copy.deepcopy(module.config)
        config.update({**naming.labels(subject.config.targets[head]), **more})
        config._attn_implementation = None
        try:
            whole = getattr(library, f"AutoModelFor{task}").from_config(config, dtype=torch.float32)
        except ValueError:
            raise _refused(f"a {config.model_type} with a head", "heads") from None
        layers = [m for m in whole.classifier.modules() if isinstance(m, nn.Linear)]
        linear: Any = model.heads[head].linear
        if not layers or layers[-1].weight.shape != linear.weight.shape:
            raise _refused(
                f"a {config.model_type} whose head looks at {linear.in_features} features", "heads"
            )
        whole.base_model.load_state_dict(module.state_dict())
        with torch.no_grad():
            layers[-1].weight.copy_(linear.weight)
            layers[-1].bias.copy_(linear.bias)
            if isinstance(
                getattr(whole, "projector", None), nn.Linear
            ):  # a dense layer that ours do not have
                nn.init.eye_(whole.projector.weight)
                nn.init.zeros_(whole.projector.bias)
        whole.save_pretrained(path)


def _load(library: Any, path: Path) -> Any:
    config = library.AutoConfig.from_pretrained(path, local_files_only=True)
    kind: Any
    kind, options = model_class(library, config)
    if config.architectures[0] != kind.__name__:
        kind, options = getattr(library, config.architectures[0]), {}
    return kind.from_pretrained(path, local_files_only=True, dtype=torch.float32, **options)
