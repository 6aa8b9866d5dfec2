"""Models of every family, small, and batches for them, as `jichu export` is given them."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from jichu.data.config import SpectrogramConfig
from jichu.data.decode import Preprocess
from jichu.data.schema import TableSchema
from jichu.data.sound import Sound
from jichu.data.special import Special, TextInputs
from jichu.data.target import Target
from jichu.data.windows import SeriesInputs
from jichu.models.classical import Estimated
from jichu.models.folder import ModelConfig
from jichu.ship.export.base import Subject
from jichu.ship.export.program import LEAST, inputs, reference
from jichu.ship.signature import Signature

CLASSES = Target("kind", "classification", ("a", "b", "c"))
TAGS = Target("tags", "multilabel", ("x", "y"))
NUMBER = Target("price", "regression", mean=1e6, std=3.0)
QUANTILES = Target("price", "regression", mean=-2.0, std=0.5, quantiles=(0.1, 0.5, 0.9))
FORECAST = Target("p", "forecast", series=("p",), steps=4, means=(30.0,), stds=(2.0,))
TABLE = TableSchema(("n", "m", "o"), (), {"c": ("x", "y", "z"), "d": ("u",)})
SPECIAL = Special(pad=0, unknown=1, mask=2, begin=3, end=4)
TEXT = TextInputs(40, 16, SPECIAL)
SERIES = SeriesInputs(("p", "q"), 24, (0,))
SOUND = Sound(8000, 3200)
TINY = {"width": 32, "depth": 2, "heads": 2}
LANGUAGE = {"heads": {"tokens": {"name": "language"}}, "targets": {}}


def image(size, channels=3):
    return {"image": Preprocess(size, channels, "stretch")}


def config(backbone, head="linear", target=CLASSES, **more):
    backbone = {"name": backbone} if isinstance(backbone, str) else backbone
    head = {"name": head} if isinstance(head, str) else head
    given = {"heads": {"label": head}, "targets": {"label": target}} if head else {}
    return ModelConfig(backbone, **{**given, **more})


def batch_of(made, rows, generator):
    """Random rows as the model's inputs are: with gaps in numbers, and texts of different lengths."""
    found = {}
    if made.image is not None:
        found["image"] = torch.randint(0, 256, (rows, *made.image.shape), generator=generator).to(torch.uint8)
    if made.audio is not None:
        found["audio"] = torch.randint(-20000, 20000, (rows, made.audio.samples), generator=generator).to(
            torch.int16
        )
    if made.series is not None:
        found["series"] = torch.randn(rows, 24, 2, generator=generator)
        found["series"][0, 3:5, 0] = found["series"][-1, 0, 1] = torch.nan
    if made.table is not None:
        found["numbers"] = torch.randn(rows, 3, generator=generator)
        found["numbers"][0, 0] = torch.nan
        codes = [torch.randint(0, n, (rows,), generator=generator) for n in made.table.sizes]
        found["categories"] = torch.stack(codes, 1)
    if made.text is not None:
        whole = made.text.context * made.text.windows
        tokens = torch.randint(5, made.text.vocabulary, (rows, whole), generator=generator)
        lengths = torch.randint(2, whole + 1, (rows, 1), generator=generator)
        tokens[:, 0], tokens[:, 1] = SPECIAL.begin, SPECIAL.end  # so that pairs have a second text
        tokens[torch.arange(whole) >= lengths] = -1
        width = whole if made.text.windows > 1 else max(min(LEAST, whole), int(lengths.max()))
        found["tokens"] = tokens[:, :width]
    return found


def subject(made, rows=(1, 2, 5)):
    """The model of a configuration, its statistics taken from random rows and its heads estimated on them, with batches of
    so many other rows."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made.build().eval()
    train = batch_of(made, 60, generator)
    everywhere = torch.arange(60)
    for name, ready in model.inputs.items():
        if name not in ("series", "audio") or made.spectrogram is not None:
            ready.estimate(train[name], everywhere)
    model.backbone.estimate(train, everywhere)
    with torch.no_grad():
        for (
            module
        ) in model.backbone.modules():  # such as training leaves them: at 0 and 1 much would look alike
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1, generator=generator)
        for name, head in model.heads.items():
            if isinstance(head, Estimated):
                _estimate(head, made.targets[name], model.features(train).pooled, generator)
    dims = inputs(made, model)
    found = Subject(
        model, made, Signature("small", "0" * 32, "jichu", inputs=dims, targets=made.targets), None,
        [_whole(batch_of(made, n, generator), dims) for n in rows],
    )  # fmt: skip
    outputs = {name: list(v.shape) for name, v in reference(found, found.batches[-1]).items()}
    return replace(found, signature=replace(found.signature, outputs=outputs))


def _whole(batch, dims):
    return batch | ({"answer": F.pad(batch["tokens"], (0, 3), value=-1)[:, :7]} if "answer" in dims else {})


def _estimate(head, target, features, generator):
    rows = len(features)
    if target.task == "multilabel":
        truth = torch.randint(0, 2, (rows, 2), generator=generator).float()
    elif target.task == "forecast":
        truth = torch.randn(rows, target.steps, len(target.series), generator=generator)
    elif target.task == "regression":
        truth = torch.randn(rows, generator=generator)
    else:
        truth = torch.arange(rows) % len(target.classes)
    given = {"groups": torch.arange(rows) % 3 % 2} if head.by else {}
    head.estimate(features, truth, features, **given)


SPECTROGRAM = {"audio": SOUND, "spectrogram": SpectrogramConfig()}
SERIES_ARGS = {"series": SERIES, "target": FORECAST}
# Of each backbone one model at least, and of each head, input and task. What is not named by its backbone is another case
# of it.
CASES = {
    "alexnet": config({"name": "alexnet", "base": 4, "hidden": 8}, **image(32)),
    "vgg11": config({"name": "vgg11", "base": 4, "hidden": 8}, **image(32)),
    "vgg11-bn": config({"name": "vgg11-bn", "base": 4, "classifier": False}, **image(32)),
    "cnn": config("cnn", **image(16, 1)),
    "convnext": config({"name": "convnext", "widths": [8, 16], "depths": [1, 1]}, **image(32)),
    "densenet121": config({"name": "densenet121", "growth": 2}, **image(16)),
    "inception-v3": config({"name": "inception-v3", "base": 1}, **image(75)),
    "resnet9": config({"name": "resnet9", "base": 4}, **image(8)),
    "resnet18": config({"name": "resnet18", "base": 4}, **image(16)),
    "resnet50": config({"name": "resnet50", "base": 4, "stem": "large"}, **image(32)),
    "small-convnext": config({"name": "small-convnext", "depths": [1, 2], "widths": [8, 16]}, **image(16)),
    "vit": config({"name": "vit", **TINY}, **image(16)),
    "vit, mean": config({"name": "vit", **TINY, "readout": "mean"}, **image(16)),
    "lstm": config({"name": "lstm", "hidden": 6, "layers": 2, "bidirectional": True}, **image(8)),
    "gru": config({"name": "gru", "hidden": 6, "readout": "mean"}, **image(8)),
    "rnn": config({"name": "rnn", "hidden": 6, "over": "pixels"}, **image(4)),
    "pixels": config("pixels", "logistic-regression", **image(8)),
    "images scaled up": config("cnn", scaled=24, **image(16)),
    "images scaled down": config("cnn", scaled=12, **image(16)),
    "no head": config({"name": "resnet18", "base": 4}, None, **image(16)),
    "mlp": config("mlp", table=TABLE),
    "mlp, periodic": config({"name": "mlp", "numeric": "periodic"}, "linear", NUMBER, table=TABLE),
    "ft-transformer": config({"name": "ft-transformer", "depth": 2, "width": 8, "heads": 2}, table=TABLE),
    "columns": config("columns", "ridge", NUMBER, table=TABLE),
    "cells": config("cells", "gradient-boosting", table=TABLE),
    "trees of tags": config("cells", "gradient-boosting", TAGS, table=TABLE),
    "trees of quantiles": config("cells", {"name": "gradient-boosting", "trees": 5}, QUANTILES, table=TABLE),
    "naive-bayes": config("columns", "naive-bayes", table=TABLE),
    "nearest-neighbours": config("columns", {"name": "nearest-neighbours", "weights": "distance"}, table=TABLE),
    "cosine neighbours": config("columns", {"name": "nearest-neighbours", "metric": "cosine"}, TAGS, table=TABLE),
    "prototypes": config("columns", "prototypes", table=TABLE),
    "far prototypes": config("columns", {"name": "prototypes", "distance": "squared"}, table=TABLE),
    "fair-logistic-regression": config(
        "columns", {"name": "fair-logistic-regression", "by": ["c"], "rounds": 3},
        Target("kind", "classification", ("no", "yes")), table=TABLE,
    ),
    "two targets": config("mlp", table=TABLE, heads={"label": {"name": "linear"}, "label_2": {"name": "linear"}},
                          targets={"label": TAGS, "label_2": QUANTILES}),
    "images beside a table": config("mlp", table=TABLE, **image(8)),
    "bert": config({"name": "bert", **TINY}, text=TEXT),
    "bert of pairs": config({"name": "bert", **TINY, "readout": "cls"}, text=replace(TEXT, pair=True)),
    "bert in windows": config({"name": "bert", **TINY}, text=replace(TEXT, windows=3)),
    "bert, language": config({"name": "bert", **TINY}, text=TEXT, **LANGUAGE),
    "gpt": config({"name": "gpt", **TINY}, "linear", NUMBER, text=TEXT),
    "gpt, language": config({"name": "gpt", **TINY}, text=TEXT, **LANGUAGE),
    "llama": config({"name": "llama", **TINY}, "linear", TAGS, text=TEXT),
    "llama, language": config({"name": "llama", **TINY, "kv_heads": 1}, text=TEXT, **LANGUAGE),
    "t5": config({"name": "t5", **TINY}, text=TEXT),
    "t5, language": config({"name": "t5", **TINY}, text=TEXT, **LANGUAGE),
    "lstm-text": config({"name": "lstm-text", "width": 8, "hidden": 6, "layers": 2, "bidirectional": True}, text=TEXT),
    "lstm-text, language": config({"name": "lstm-text", "width": 8, "hidden": 8}, text=TEXT, **LANGUAGE),
    "gru-text": config({"name": "gru-text", "width": 8, "hidden": 6, "readout": "max"}, text=TEXT),
    "rnn-text": config({"name": "rnn-text", "width": 8, "hidden": 6, "readout": "mean"}, text=TEXT),
    "words": config({"name": "words", "weighting": "tf-idf"}, "logistic-regression", text=TEXT),
    "runs of words": config({"name": "words", "ngrams": 3, "buckets": 64}, "naive-bayes", text=TEXT),
    "wav2vec2": config({"name": "wav2vec2", **TINY, "convolutions": 16}, audio=SOUND),
    "bands": config("bands", "logistic-regression", **SPECTROGRAM),
    "spectrograms": config("cnn", **SPECTROGRAM),
    "patchtst": config({"name": "patchtst", **TINY}, "forecast", **SERIES_ARGS),
    "pictured series": config({"name": "lstm", "hidden": 6}, "forecast", pictured=True, **SERIES_ARGS),
    "window": config("window", "linear-forecast", **SERIES_ARGS),
    "seasonal-naive": config("window", "seasonal-naive", **SERIES_ARGS),
}  # fmt: skip
# names that stand for sizes of a family that is there
SIZES = ("vgg", "resnet", "densenet", "convnext-", "vit-", "bert-", "gpt-", "llama-", "t5-", "wav2vec2-")
