"""What a stage of a recipe trains: its model, its objective, what changes its rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from jichu.constraints.rulebook import Rules
from jichu.core.config import Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.folder import RunFolder
from jichu.core.names import construct, resolve
from jichu.core.progress import say
from jichu.core.randomness import guarded, seed_step
from jichu.data.augment import Augment
from jichu.data.config import AugmentConfig, SpectrogramConfig, augmentation
from jichu.data.dataset import Dataset
from jichu.data.decode import Preprocess
from jichu.data.sound import Sound
from jichu.data.special import TextInputs
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.data.windows import Windows
from jichu.models import HEADS, INITIALISATIONS
from jichu.models import folder as model_folder
from jichu.models.backbone import Backbone
from jichu.models.classical import Estimated
from jichu.models.folder import LANGUAGE, ModelConfig
from jichu.models.model import Model
from jichu.models.weights import load_pretrained
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import Objective
from jichu.objectives.language import Answers
from jichu.train.schedules import FOLLOWS_EVALUATIONS

from .config import FinetuneStage, ModelStage, PretrainStage, Recipe, SupervisedStage
from .targets import supervised

Trained = TypeVar("Trained", bound=SupervisedStage)
# what rows of each kind of data are called
KINDS = {"image": "images", "audio": "sounds", "series": "series", "table": "tables", "text": "texts"}
TOKENS = "tokens"  # the tensor of a text's tokens, and the head that predicts them


@dataclass
class Work:
    """What the stages of one run share. `objects` holds what was given in Python and cannot be
    written into a recipe: a backbone module, metric functions."""

    recipe: Recipe
    dataset: Dataset
    resume: bool = False
    objects: dict[str, Any] = field(default_factory=dict)
    folder: RunFolder = field(init=False)  # taken once every check has passed
    tokenizer: Tokenizer | None = None  # of texts, which all stages share
    text: TextInputs | None = None

    def own_backbone(self) -> nn.Module | None:
        """A copy of the module given in Python: each model starts from it as it was given."""
        return copy.deepcopy(self.objects.get("backbone"))

    def on(self, dataset: Dataset) -> Work:
        """The same work on other data."""
        found = copy.copy(self)
        found.dataset = dataset
        return found

    def rules(self) -> Rules:
        """What the recipe's rules mean for these data."""
        return Rules.of_data(self.recipe.rules, self.dataset)

    def draw(self, number: int) -> Tensor:
        """The labelled training rows of a draw, as many as the recipe says."""
        data = self.recipe.data
        return self.dataset.draw(
            data.labels_per_class, share=data.labels_share, seed=self.recipe.seed, draw=number
        )


def start_supervised(
    stage: FinetuneStage, rows: Tensor, work: Work, draw: int = 0
) -> tuple[Model, ModelConfig, Objective | None]:
    """A model with a head for each target, and the objective that trains it; None where the heads are
    estimated at once."""
    targets = work.dataset.about_targets(rows)
    if any(target.task == "text" for target in targets.values()):
        return _start_answers(stage, targets, work, draw)
    for key, target in targets.items():
        _refuse_constant(target, work.dataset, key, rows[work.dataset.known(rows, key)])
    head: Any = resolve("head", stage.head.name, HEADS, where=f"{stage.name}.head")
    estimated = isinstance(head, type) and issubclass(head, Estimated)
    if estimated:
        for target in targets.values():
            if target.task not in head.tasks:
                fit = [
                    n
                    for n in HEADS
                    if target.task in getattr(resolve("head", n, HEADS), "tasks", (target.task,))
                ]
                raise UsageError(
                    f"{stage.head.name} does no {target.task}, which {target.column} wants",
                    where=f"{stage.name}.head", expected=f"one of {', '.join(fit)}",
                )  # fmt: skip
    objective = None
    if not estimated:
        where = f"{stage.name}.objective"
        objective = supervised(stage.objective, targets, work.dataset.tensors, where)
    if objective is not None:
        targets = {key: objective.answer(key, target) for key, target in targets.items()}
    backbone = stage.backbone or default_backbone(work.dataset, head if estimated else None)
    heads = {key: _head(stage, target) for key, target in targets.items()}
    model, config = start_model(stage, backbone, work, heads, targets, draw=draw)
    if work.recipe.rules:
        config.rules = work.rules().book
    return model, config, objective


def _head(stage: FinetuneStage, target: Target) -> dict[str, Any]:
    """The head of a target: what is linear forecasts where that is asked for."""
    usual = stage.head.name == "linear" and target.task == "forecast"
    return {**stage.head.model_dump(), **({"name": "forecast"} if usual else {})}


def _start_answers(
    stage: FinetuneStage, targets: dict[str, Target], work: Work, draw: int
) -> tuple[Model, ModelConfig, Objective]:
    """A language model that learns to write what the one target holds."""
    where = f"{stage.name}.objective"
    if len(targets) > 1:
        raise UsageError(
            f"{', '.join(t.column for t in targets.values())} at once, of which a text is to be written",
            where="data.target", expected="one column",
        )  # fmt: skip
    for key in ("head", "wrap"):
        if key in stage.changed:
            raise UsageError(
                f"{key} does nothing where texts are written",
                where=f"{stage.name}.{key}",
                expected="no such key",
            )
    spec = Spec(name="answers") if stage.objective.name == "auto" else stage.objective
    objective = construct("objective", spec, OBJECTIVES, where=where)()
    if not isinstance(objective, Answers):
        raise UsageError(f"{spec.name} does not learn to write answers", where=where, expected="answers")
    backbone = stage.backbone or Spec(name="llama-mini")
    model, config = start_model(stage, backbone, work, {TOKENS: {"name": LANGUAGE}}, targets, draw=draw)
    return model, config, objective


def initialisation(spec: Spec, where: str, network: nn.Module | None) -> Callable[[], Any]:
    """What draws the weights of a network anew."""
    return construct("initialisation", spec, INITIALISATIONS, where=where, network=network)


def default_backbone(dataset: Dataset, estimated: Any = None) -> Spec:
    """What is taken where nothing is said; `estimated` is the class of a head that learns at once."""
    if dataset.kind == "image":
        return Spec(name="pixels" if estimated else "cnn")
    if dataset.kind == "series":
        return Spec(name="window" if estimated else "patchtst")
    if dataset.kind == "audio":
        return Spec(name="bands" if estimated else "cnn")
    if dataset.kind == "text":
        return Spec(name="words" if estimated else "bert-mini")
    return Spec(name=estimated.reads if estimated else "mlp")


def _refuse_constant(target: Target, dataset: Dataset, key: str, rows: Tensor) -> None:
    column: Any = dataset.tensors[key]
    values = column.covered(rows) if isinstance(column, Windows) else column[rows]
    if target.task != "multilabel" and len(values.unique()) < 2:
        found = target.classes[int(values[0])] if target.classes and len(values) else values[:1].tolist()
        raise DataError(
            f"{target.column} is {found} in every labelled training row",
            expected="two different values at least",
        )


def spaced(stage: Trained, epoch: int, rows: int, evaluated: int) -> Trained:
    """A stage with steps between evaluations: if nothing is said, and nothing waits for them, an epoch of so
    many steps or as many as train on twice the rows that are evaluated: of few labels an epoch is nothing."""
    followed = stage.patience is not None or stage.schedule.name == FOLLOWS_EVALUATIONS
    if stage.evaluate_every is not None or followed or not rows:
        return stage
    return stage.model_copy(update={"evaluate_every": epoch * max(1, math.ceil(2 * evaluated / rows))})


def usual(objective: Spec, dataset: Dataset) -> Spec:
    """What learns from anything but texts where nothing is said."""
    if objective.name != "auto":
        return objective
    return Spec(name="masked-series" if dataset.kind == "series" else "vicreg")


def pretraining_objective(stage: PretrainStage, work: Work) -> Objective:
    """What learns from images or tables without labels."""
    spec = usual(stage.objective, work.dataset)
    suits = getattr(resolve("objective", spec.name, OBJECTIVES), "suits", None)
    if stage.augment == "auto" and suits is not None:
        stage = stage.model_copy(update={"augment": suits})
    augment = augmenter(stage, work.dataset) or Augment(AugmentConfig())
    given: dict[str, Any] = {
        "augment": augment,
        "tensors": work.dataset.inputs,
        "rows": work.dataset.splits["train"],
    }
    return construct("objective", spec, OBJECTIVES, where=f"{stage.name}.objective", **given)()


def adaptation(stage: FinetuneStage) -> Any:
    """The preset's name, or the list of (pattern, rule)."""
    return stage.adapt if isinstance(stage.adapt, str) else [(pattern, rule) for pattern, rule in stage.adapt]


def augmenter(stage: ModelStage, dataset: Dataset) -> Augment | None:
    """What changes the training rows at random; None where nothing is asked for."""
    image = dataset.tensors.get("image")
    config = augmentation(stage.augment, dataset.kind, None if image is None else image.shape[1])
    asked = config.changed if stage.augment != "auto" else set()
    there = {"images": image is not None, "sounds": dataset.kind == "audio", "tables": bool(dataset.table)}
    for key in sorted(asked):
        kind = {"table": "tables", "audio": "sounds"}.get(key, "images")
        if not there[kind]:
            raise UsageError(
                f"{key} changes {kind}, and these data have none", where=f"{stage.name}.augment.{key}",
                expected={
                    "audio": "augment.audio: {shift, speed, gain, noise, times, bands}",
                    "table": "augment.table: {noise, swap, mask}",
                }.get(dataset.kind, "no such key"),
            )  # fmt: skip
    if config == AugmentConfig():
        return None
    return Augment(config, spread(dataset) if config.table.noise else None)


def spread(dataset: Dataset) -> Tensor | None:
    """The deviation of each number column among the training rows [F]."""
    if "numbers" not in dataset.tensors:
        return None
    numbers = dataset.tensors["numbers"][dataset.splits["train"]]
    return (numbers - numbers.nanmean(0)).square().nanmean(0).sqrt().nan_to_num()


def start_model(
    stage: ModelStage, backbone: Spec | None, work: Work, heads: dict[str, dict[str, Any]],
    targets: dict[str, Target], draw: int = 0,
) -> tuple[Model, ModelConfig]:  # fmt: skip
    """A model with fresh heads, on the backbone of an earlier stage or run, or on a fresh one."""
    dataset, own = work.dataset, work.own_backbone()
    with guarded(torch.device("cpu")):
        seed_step(torch.device("cpu"), work.recipe.seed, "init", draw)
        if stage.from_ is not None:
            earlier = locate(stage.from_, getattr(work, "folder", None))
            source = model_folder.read_config(earlier)
            refuse_other_inputs(source, dataset, stage.from_)
            text, image = work.text if source.text else None, dataset.preprocess if source.image else None
            config = replace(source, heads=heads, targets=targets, text=text, rules=None, ranges=[])
            config.image = image if isinstance(image, Preprocess) else None
            model = config.build(own)
            model_folder.take_over(model, earlier)
            return model, config
        spec = backbone or Spec(name="auto")
        if spec.name == "auto":
            spec = Spec(name=default_backbone(dataset).name, **spec.arguments)
        # sounds and series can be made to pictures
        available = {dataset.preprocess.kind, "image"} if dataset.preprocess else set()
        available |= {"series", "image"} if dataset.series else set()
        available |= {"table"} if dataset.table else set()
        available = {"text"} if work.text else available
        if own is not None:
            read = available if isinstance(own, Backbone) else {"image"} & available
            described = model_folder.own_backbone(own)
        else:
            read = model_folder.inputs_for(spec, available, where=f"backbone {spec.name}")
            described = spec.model_dump()
        config = ModelConfig(
            described, table=dataset.table if "table" in read else None, heads=heads, targets=targets,
            scaled=stage.pixels.size if stage.pixels else None, text=work.text if "text" in read else None,
        )  # fmt: skip
        if isinstance(dataset.preprocess, Sound) and read & {"image", "audio"}:
            config.audio = dataset.preprocess
            config.spectrogram = _spectrogram(stage, read, described)
        elif dataset.series is not None and read & {"image", "series"}:
            config.series, config.pictured = dataset.series, "series" not in read
        elif isinstance(dataset.preprocess, Preprocess) and "image" in read:
            config.image = dataset.preprocess
        model = config.build(own)
        if stage.initialise is not None:
            initialisation(stage.initialise, f"{stage.name}.initialise", model.backbone)()
        if stage.weights is not None:
            load_pretrained(model.backbone, stage.weights)
        model.inputs.estimate(dataset.tensors, dataset.splits["train"])
        model.backbone.estimate(dataset.tensors, dataset.splits["train"])
        if stage.pixels is not None and stage.pixels.mean is not None:
            model.inputs.set_pixels(stage.pixels.mean, stage.pixels.std)
        else:
            model.inputs.adopt(model.backbone)
        return model, config


def tell_start(stage: ModelStage, work: Work, own: str | None = None) -> None:
    """Say what begins anew where training goes on from another model: what an objective adds to the network, its `own`
    parts, is no part of a model, and a language model's head is there only if it was trained."""
    if stage.from_ is None:
        return
    if own is not None:
        say(f"  goes on from {stage.from_}; {own}'s own parts (projector, decoder, teacher) begin anew")
    elif not model_folder.read_config(locate(stage.from_, work.folder)).language:
        say(f"  goes on from {stage.from_}, which predicts no tokens: the head that does begins anew")


def _spectrogram(stage: ModelStage, read: set[str], backbone: dict[str, Any]) -> SpectrogramConfig | None:
    """How sounds become pictures; None for a backbone that hears them."""
    if "audio" not in read:
        return stage.spectrogram or SpectrogramConfig()
    if stage.spectrogram is not None:
        raise UsageError(
            f"{backbone['name']} hears sounds as they are",
            where=f"{stage.name}.spectrogram",
            expected="no such key",
        )
    return None


def refuse_other_inputs(source: ModelConfig, dataset: Dataset, start: str) -> None:
    """UsageError where the model of `start` reads other columns than these data have."""
    now = dataset.preprocess if isinstance(dataset.preprocess, Preprocess) else None
    if source.image and (now is None or source.image.channels != now.channels):
        found = f"have {now.channels}" if now else "are no images"
        raise UsageError(
            f"{start} takes images of {source.image.channels} channels, these {found}",
            expected=f"data.channels: {source.image.channels}" if now else "images",
        )
    if source.audio and source.audio != dataset.preprocess:
        kept = f"data.rate: {source.audio.rate} and data.seconds: {source.audio.seconds:g}"
        raise UsageError(
            f"{start} hears {source.audio}, and these data are {dataset.preprocess or 'no sounds'}",
            expected=kept if dataset.kind == "audio" else "sounds",
        )
    if source.series and source.series != dataset.series:
        of = source.series
        raise UsageError(
            f"{start} looks at {of.steps} steps of {', '.join(of.columns)}", where="data.series",
            expected="the same columns, and the same context",
        )  # fmt: skip
    if source.text and dataset.kind != "text":
        raise UsageError(
            f"{start} reads texts, and these data have none to read", expected="data.text: a column"
        )
    if source.table and source.table != dataset.table:
        raise UsageError(
            f"{start} was trained on the columns {', '.join(source.table.kinds)}",
            expected="the same columns with the same categories",
        )


def locate(start: str, folder: RunFolder | None = None) -> Path:
    """The model folder meant by a stage's name, a run folder or a model folder."""
    if folder is not None and (folder.stage_model(start) / "config.json").exists():
        return folder.stage_model(start)
    path = Path(start)
    for candidate in (path / "model", path):
        if (candidate / "config.json").exists():
            return candidate
    if (path / "recipe.yaml").exists():
        raise UsageError(
            f"no model in {start}, a run that is not finished or whose model was removed",
            expected="its end, by --resume",
        )
    raise UsageError(f"no model in {start}", expected="a run folder, or a model folder with config.json")
