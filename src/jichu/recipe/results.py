"""What a stage that trains leaves behind, and what the summary says of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from jichu.adapt import lora
from jichu.core.folder import RunFolder
from jichu.core.progress import say
from jichu.data.batches import gather
from jichu.data.dataset import Dataset
from jichu.data.target import Target
from jichu.models import adapters, naming
from jichu.models.model import Model
from jichu.models.statistics import layer_statistics
from jichu.models.statistics import warnings as foretold
from jichu.train.fitted import Fitted
from jichu.train.memory import out_of_memory

from .build import TOKENS, Work, locate
from .config import (
    AuditStage,
    FinetuneStage,
    InspectStage,
    ModelStage,
    PretrainStage,
    Recipe,
    Stage,
    SupervisedStage,
)

TEXTS = Target("text", "language")
_LOOKED_AT = (
    32,
    8,
    2,
)  # rows on which the layers are looked at before the first step; fewer where memory is short
Result = dict[str, Any]  # {"metrics": {…}, "samples_per_second": …, "warnings": […]}


def part_of(work: Work, stage: str, draw: int, key: str) -> Path:
    """Where the predictions of one draw wait for the audit."""
    return work.folder.parts / f"{stage}.{draw}.{key}.parquet"


def measured(recipe: Recipe, dataset: Dataset) -> list[tuple[str, Target, list[str], int]]:
    """What an audit measures: of each target its key, the stages that predict it, and their draws; then the
    likelihood of texts, of the stages that pretrain on them."""
    found = [(key, target, recipe.fitted, recipe.data.draws) for key, target in dataset.targets.items()]
    found = found if recipe.fitted else []
    pretrained = [stage.name for stage in recipe.stages if isinstance(stage, PretrainStage)]
    if dataset.kind == "text" and pretrained and "test" in dataset.splits:
        found.append((TOKENS, TEXTS, pretrained, 1))
    return found


def look(model: Model, stage: ModelStage, rows: Tensor, work: Work, name: str) -> list[str]:
    """Statistics of each layer before the first step, of a model that starts from nothing, into
    `layers.jsonl`; what they foretell, in words."""
    if stage.from_ is not None or stage.weights is not None:
        return []
    for count in _LOOKED_AT:
        try:
            layers = layer_statistics(model.backbone, model.inputs(gather(work.dataset.inputs, rows[:count])))
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
    else:
        return []  # what a step needs is planned, and told, afterwards
    work.folder.look(name, [asdict(layer) for layer in layers])
    remarks = [f"{name} at its first step: {text}" for text in foretold(layers)]
    for remark in remarks:
        say(f"  warning: {remark}")
    return remarks


def unseen(targets: dict[str, Target]) -> list[str]:
    """What a model will never be right about: classes and tags that no row has that it learns from."""
    remarks = []
    for target in targets.values():
        none = [name for name, rows in zip(target.classes, target.counts, strict=False) if not rows]
        if none:
            remarks.append(
                f"no training row of {target.column} has {', '.join(none[:10])}: no answer to such rows is right"
            )
            say(f"  warning: {remarks[-1]}")
    return remarks


def settle_adapters(model: Model, stage: FinetuneStage, work: Work, *, keep: bool = True) -> bool:
    """Adapters that were trained are kept in `peft`'s format, and become part of the weights. Gives whether those kept
    are all that has to be written: they stand on a model outside this run, which has its weights."""
    if not lora.is_adapted(model):
        return False
    base = None if stage.from_ is None else locate(stage.from_, work.folder)
    inside = base is None or work.folder.path in base.parents
    if work.folder.writes and keep and (base is not None or naming.has_layout(model)):
        kept = adapters.tensors(base) if base is not None else None
        named = str(base or (stage.backbone.name.removeprefix("hf:") if stage.backbone else ""))
        lora.save(model, work.folder.stage_model(stage.name) / adapters.FOLDER, named, kept)
    lora.merge(model)
    return not inside


def result(fitted: Fitted, model: nn.Module, work: Work, name: str, metrics: dict[str, Any]) -> Result:
    """What the summary says of a stage that trained."""
    plans = work.folder.notes().get("plans", {})
    plan = plans.get(name) or plans.get(f"{name}/0") or {}
    parameters = sum(p.numel() for p in model.parameters())
    about = {
        "parameters": parameters, "trained_parameters": fitted.trained or None, "steps": fitted.steps or None,
        "memory_mib": plan.get("memory_mib"),
    } | ({"privacy": fitted.privacy} if fitted.privacy else {})  # fmt: skip
    return {
        "samples_per_second": fitted.rows_per_second if fitted.rows else None,
        "utilisation": fitted.utilisation, "shares": fitted.shares() if fitted.rows else {}, "metrics": about | metrics,
        "seconds_before": fitted.before,
    }  # fmt: skip


def made(stage: Stage, recipe: Recipe, folder: RunFolder) -> list[Path]:
    """The files that a stage leaves behind, without which it is not done."""
    if isinstance(stage, AuditStage):
        return [folder.audit, folder.predictions]
    if isinstance(stage, InspectStage):
        return [folder.data_page]
    model = folder.stage_model(stage.name)
    weights = (
        model / adapters.FOLDER / adapters.TENSORS if adapters.is_based(model) else model / adapters.WEIGHTS
    )
    files = [weights, model / "config.json"]
    if isinstance(stage, SupervisedStage) and not folder.predictions.exists():
        files += [folder.parts / f"{stage.name}.{draw}.json" for draw in range(recipe.data.draws)]
    return files
