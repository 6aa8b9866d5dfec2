"""What each stage of a recipe does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from jichu.auditing import measure
from jichu.auditing import table as tables
from jichu.core.config import Spec
from jichu.core.errors import UsageError
from jichu.core.files import write_json
from jichu.core.folder import RunFolder
from jichu.core.names import construct, resolve
from jichu.core.progress import say
from jichu.core.randomness import guarded, seed_step
from jichu.core.ranks import gather_objects
from jichu.data.augment import Augment
from jichu.data.batches import Batches
from jichu.data.config import AugmentConfig, augmentation
from jichu.data.dataset import Dataset
from jichu.metrics import METRICS
from jichu.models import folder as model_folder
from jichu.models.backbone import Features
from jichu.models.classical import Estimated
from jichu.models.folder import ModelConfig
from jichu.models.model import Model, Normalize
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import Objective
from jichu.objectives.views import collapse
from jichu.objectives.wrapper import Augmented
from jichu.train.fit import Fitted, fit
from jichu.train.predict import embed, evaluating, predict

from .config import AuditStage, FinetuneStage, InspectStage, PretrainStage, Recipe

_TARGET = "label"
_POPULATION = 10_000  # training rows that the features' mean and deviation are taken from


@dataclass
class Work:
    """What the stages of one run share. `objects` holds what was given in Python and cannot be
    written into a recipe: a backbone module, metric functions."""

    recipe: Recipe
    dataset: Dataset
    resume: bool = False
    objects: dict[str, Any] = field(default_factory=dict)
    folder: RunFolder = field(init=False)  # taken once every check has passed

    def own_backbone(self) -> nn.Module | None:
        """A copy of the module given in Python: each model starts from it as it was given."""
        return copy.deepcopy(self.objects.get("backbone"))

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The columns without the labels: what self-supervision may see."""
        return {name: t for name, t in self.dataset.tensors.items() if name != _TARGET}


Result = dict[str, Any]  # {"metrics": {…}, "samples_per_second": …, "warning": …}


def inspect(stage: InspectStage, work: Work) -> Result:
    """Print what the data are."""
    found = work.dataset.summary()
    for name, split in found["splits"].items():
        counts = ", ".join(f"{c} {n}" for c, n in list(split["classes"].items())[:12])
        more = " …" if len(split["classes"]) > 12 else ""
        blind = f", {split['unlabelled']} without label" if split["unlabelled"] else ""
        say(f"  {name}: {split['rows']} rows{blind}" + (f" ({counts}{more})" if counts else ""))
    if found["preprocess"]:
        p = found["preprocess"]
        say(
            f"  images {p['size']}×{p['size']}, {p['channels']} channels; {found['duplicates']['exact']} exact duplicates"
        )
    kept = ("rows", "splits", "duplicates", "quarantined")
    return {"metrics": {key: found[key] for key in kept}}


def pretrain(stage: PretrainStage, work: Work) -> Result:
    """Train a backbone without labels, and say so where it collapsed."""
    dataset = work.dataset
    model, config = start_model(stage.from_, stage.backbone, work, heads={})
    augment = Augment(augmentation(stage.augment, dataset.tensors["image"].shape[1]))
    objective = construct(
        "objective", stage.objective, OBJECTIVES, where=f"{stage.name}.objective", augment=augment
    )()
    rows = dataset.splits["train"]
    batches = Batches(work.inputs, rows, batch_size=stage.batch_size, seed=work.recipe.seed, drop_last=True)
    fitted = fit(model, objective, batches, stage, seed=work.recipe.seed,
                 folder=work.folder, name=stage.name, resume=work.resume)  # fmt: skip
    last: dict[str, Any] = next((row for row in reversed(fitted.history) if "rank_share" in row), {})
    warning = collapse(last)
    if warning:
        warning = f"{stage.name} {warning}"
        say(f"warning: {warning}")
    if work.folder.writes:
        model_folder.save(work.folder.stage_model(stage.name), model, config)
    told = ("loss", "effective_rank", "rank_share", "spread")
    found: dict[str, Any] = {key: last[key] for key in told if key in last}
    found["epochs"] = fitted.rows / len(rows)
    return {**_result(fitted, model, work, stage.name, found), "warning": warning}


def finetune(stage: FinetuneStage, work: Work) -> Result:
    """Fit to the labels, once for each draw of them, and predict the held-out rows."""
    dataset, recipe = work.dataset, work.recipe
    held_out = dataset.labelled("test") if "test" in dataset.splits else torch.empty(0)
    draws = recipe.data.draws
    fitted = Fitted()
    model: Model | None = None
    features: dict[str, Tensor] = {}
    for draw in range(draws):
        part = work.folder.parts / f"{stage.name}.{draw}.parquet"
        if gather_objects(work.resume and part.exists())[0]:  # as the first process sees it
            continue
        rows = dataset.draw(recipe.data.labels_per_class, seed=recipe.seed, draw=draw)
        heads = {_TARGET: stage.head.model_dump()}
        model, config = start_model(stage.from_, stage.backbone or Spec(name="cnn"), work, heads, draw=draw)
        name = stage.name if draws == 1 else f"{stage.name}/{draw}"
        if isinstance(model.heads[_TARGET], Estimated):
            logits = _estimate(model, rows, held_out, work, features)
        else:
            once = _train(model, stage, rows, work, name)
            fitted.steps, fitted.rows = once.steps, fitted.rows + once.rows
            fitted.seconds += once.seconds
            logits = predict(model, dataset.tensors, held_out, _TARGET) if len(held_out) else torch.empty(0)
        if work.folder.writes:
            if draw == 0:
                model_folder.save(work.folder.stage_model(stage.name), model, config)
            if len(held_out):
                truth = dataset.tensors[_TARGET][held_out]
                tables.write(part, tables.make(stage.name, draw, held_out, dataset.names, truth, logits))
    if model is None:  # every draw was there already
        model, _ = model_folder.load(work.folder.stage_model(stage.name), work.own_backbone())
    labelled = len(dataset.draw(recipe.data.labels_per_class, seed=recipe.seed, draw=0))
    return _result(fitted, model, work, stage.name, {"draws": draws, "labelled_rows": labelled})


def supervised_objective(stage: FinetuneStage, work: Work) -> Objective:
    """The objective of a stage, wrapped as it says; UsageError where the data lack its column."""
    objective: Objective = construct(
        "objective", stage.objective, OBJECTIVES, where=f"{stage.name}.objective"
    )()
    target = getattr(objective, "target", _TARGET)
    if target not in work.dataset.tensors:
        raise UsageError(
            f"{stage.objective.name} learns the column {target!r}, which these data do not have",
            where=f"{stage.name}.objective",
            expected=f"one of {', '.join(work.dataset.tensors)}, as objective.target",
        )
    for spec in stage.wrap:
        objective = construct("objective", spec, OBJECTIVES, where=f"{stage.name}.wrap", inner=objective)()
    return objective


def adaptation(stage: FinetuneStage) -> Any:
    """The preset's name, or the list of (pattern, rule)."""
    return stage.adapt if isinstance(stage.adapt, str) else [(pattern, rule) for pattern, rule in stage.adapt]


def _train(model: Model, stage: FinetuneStage, rows: Tensor, work: Work, name: str) -> Fitted:
    dataset = work.dataset
    objective = supervised_objective(stage, work)
    augment = augmentation(stage.augment, dataset.tensors["image"].shape[1])
    if augment != AugmentConfig():
        objective = Augmented(objective, Augment(augment))
    evaluate = None
    if "validation" in dataset.splits and len(dataset.labelled("validation")):
        evaluate = _evaluation(dataset, dataset.labelled("validation"))
    batches = Batches(dataset.tensors, rows, batch_size=stage.batch_size, seed=work.recipe.seed)
    return fit(model, objective, batches, stage, adapt=adaptation(stage), evaluate=evaluate, monitor="validation_loss",
               seed=work.recipe.seed, folder=work.folder, name=name, resume=work.resume)  # fmt: skip


def _evaluation(dataset: Dataset, rows: Tensor) -> Callable[[nn.Module], dict[str, float]]:
    truth = dataset.tensors[_TARGET][rows]

    def evaluate(model: nn.Module) -> dict[str, float]:
        logits = predict(model, dataset.tensors, rows, _TARGET)
        return {
            "validation_loss": float(nn.functional.cross_entropy(logits, truth)),
            "validation_accuracy": float((logits.argmax(1) == truth).float().mean()),
        }

    return evaluate


def _estimate(
    model: Model, rows: Tensor, held_out: Tensor, work: Work, features: dict[str, Tensor]
) -> Tensor:
    """Estimate the head; logits of the held-out rows. Features of the rows that every draw looks at are
    computed once and kept in `features`."""
    if not features:
        train = work.dataset.splits["train"]
        sample = train[:: max(1, len(train) // _POPULATION)]
        features |= {
            name: embed(model, work.inputs, r) for name, r in (("train", sample), ("held out", held_out))
        }
    head = model.heads[_TARGET]
    assert isinstance(head, Estimated)
    with evaluating(model):
        head.estimate(embed(model, work.inputs, rows), work.dataset.tensors[_TARGET][rows], features["train"])
        return head(Features(features["held out"])) if len(held_out) else torch.empty(0)


def start_model(
    start: str | None, backbone: Spec | None, work: Work, heads: dict[str, dict[str, Any]], draw: int = 0
) -> tuple[Model, ModelConfig]:
    """A model with fresh heads, on the backbone of an earlier stage or run, or on a fresh one."""
    preprocess = work.dataset.preprocess
    assert preprocess is not None
    own = work.own_backbone()
    with guarded(torch.device("cpu")):
        seed_step(torch.device("cpu"), work.recipe.seed, "init", draw)
        if start is not None:
            earlier = locate(start, getattr(work, "folder", None))
            source = model_folder.read_config(earlier)
            _refuse_channels(source, preprocess, start)
            config = ModelConfig(source.backbone, preprocess, heads, work.dataset.classes)
            model = config.build(own)
            model_folder.load_weights(model, earlier, "backbone.")
            model_folder.load_weights(model, earlier, "normalize.")
            return model, config
        spec = (backbone or Spec(name="cnn")).model_dump()
        config = ModelConfig(
            model_folder.own_backbone(own) if own is not None else spec,
            preprocess,
            heads,
            work.dataset.classes,
        )
        model = config.build(own)
        model.normalize = Normalize.of(work.dataset.tensors["image"], work.dataset.splits["train"])
        return model, config


def _refuse_channels(source: ModelConfig, preprocess: Any, start: str) -> None:
    if source.preprocess.channels != preprocess.channels:
        raise UsageError(
            f"{start} takes images of {source.preprocess.channels} channels, these have {preprocess.channels}",
            expected=f"data.channels: {source.preprocess.channels}",
        )


def locate(start: str, folder: RunFolder | None = None) -> Path:
    """The model folder meant by a stage's name, a run folder or a model folder."""
    if folder is not None and (folder.stage_model(start) / "config.json").exists():
        return folder.stage_model(start)
    path = Path(start)
    for candidate in (path / "model", path):
        if (candidate / "config.json").exists():
            return candidate
    raise UsageError(f"no model in {start}", expected="a run folder, or a model folder with config.json")


def audit(stage: AuditStage, work: Work) -> Result:
    """Measure every model on the held-out rows."""
    parts = [
        work.folder.parts / f"{name}.{draw}.parquet"
        for name in work.recipe.fitted
        for draw in range(work.recipe.data.draws)
    ]
    table = pa.concat_tables([tables.read(p) for p in parts]).unify_dictionaries()
    metrics = metric_functions(stage, work.objects)
    found = measure.measure(table, work.dataset.classes, metrics, stage.gain, seed=work.recipe.seed)
    if work.folder.writes:
        tables.write(work.folder.predictions, table)
        write_json(work.folder.audit, found)
    return {"metrics": {"primary": found["primary"], **measure.headline(found)}}


def metric_functions(stage: AuditStage, objects: dict[str, Any]) -> dict[str, Any]:
    """The metrics by name: those of the recipe, then those given in Python."""
    named = {}
    for spec in stage.metrics:
        if spec.arguments:
            raise UsageError(
                f"the metric {spec.name} takes no arguments", where="metrics", expected=spec.name
            )
        named[spec.name.rpartition(":")[2]] = resolve("metric", spec.name, METRICS, where="metrics")
    return named | objects.get("metrics", {})


def _result(fitted: Fitted, model: nn.Module, work: Work, name: str, metrics: dict[str, Any]) -> Result:
    plans = work.folder.notes().get("plans", {})
    plan = plans.get(name) or plans.get(f"{name}/0") or {}
    parameters = sum(p.numel() for p in model.parameters())
    about = {"parameters": parameters, "steps": fitted.steps or None, "memory_mib": plan.get("memory_mib")}
    return {"samples_per_second": fitted.rows_per_second if fitted.rows else None, "metrics": about | metrics}


STAGES: dict[str, Callable[[Any, Work], Result]] = {
    "inspect": inspect,
    "pretrain": pretrain,
    "finetune": finetune,
    "audit": audit,
}
