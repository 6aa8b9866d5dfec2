"""What a compress stage starts from, tried before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from jichu.compression import steps as stepping
from jichu.compression.base import Step, Subject
from jichu.core.config import Spec, read_yaml
from jichu.core.config import check as check_config
from jichu.core.errors import UsageError
from jichu.core.folder import RunFolder
from jichu.data.batches import Batch, gather
from jichu.data.decode import Preprocess
from jichu.models import folder as model_folder
from jichu.models.classical import Estimated
from jichu.models.folder import ModelConfig
from jichu.models.model import Model
from jichu.objectives.base import Objective

from .build import Work, default_backbone, locate, refuse_other_inputs, start_supervised
from .config import CompressStage, FinetuneStage, ModelStage, Recipe, one_stage
from .targets import supervised

_LOOKED_AT = 8  # batches that steps look at


def compression(
    run: str, settings: dict[str, Any], *, name: str | None = None, assignments: list[str] | None = None
) -> Recipe:
    """The recipe that makes the model of a run smaller: on its data, with its splits and its rules."""
    folder = RunFolder.open(run)
    before = check_config(Recipe, read_yaml(folder.recipe), where=str(folder.recipe))
    data = {**before.data.model_dump(by_alias=True, mode="json"), "draws": 1}
    return one_stage(
        "compress", data.pop("path"), {"from": run, **settings}, name=name, seed=before.seed, data=data,
        assignments=assignments, rules=[rule.model_dump(mode="json") for rule in before.rules],
    )  # fmt: skip


def make(stage: CompressStage, where: str) -> list[Step]:
    """The steps of a stage. UsageError where they cannot be, or do not go with what else it says."""
    steps = stepping.make(stage.steps, where, stage.trains)
    gradual = next((step.name for step in steps if step.gradual), None)
    if gradual and stage.patience is not None:
        raise UsageError(
            f"patience would go back to weights that {gradual} had not done with", where=f"{where}.patience",
            expected="no such key",
        )  # fmt: skip
    return steps


def check_start(stage: CompressStage, recipe: Recipe, where: str) -> None:
    """UsageError where a stage starts from a run whose model predicts nothing."""
    start = str(stage.from_)
    if any(other.name == start for other in recipe.stages):
        return
    config = model_folder.read_config(locate(start))
    if config.language or any(target.task == "text" for target in config.targets.values()):
        raise UsageError(
            f"{start} is a language model, of which no labels can say what is left",
            where=f"{where}.from", expected="a run of finetune with classes, tags or numbers",
        )  # fmt: skip
    if not config.targets or not config.heads:
        raise UsageError(
            f"the model in {start} has no head to predict with", where=f"{where}.from",
            expected="a finetune stage in between",
        )  # fmt: skip


def check(stage: CompressStage, work: Work, where: str) -> None:
    """Try every step on the model, or on a fresh one like that which an earlier stage will give. UsageError where one does
    not suit it."""
    if work.recipe.data.draws > 1:
        raise UsageError(
            f"{work.recipe.data.draws} draws of labels, and one model is compressed",
            where="data.draws",
            expected="1",
        )
    rows = work.draw(0)
    steps = make(stage, f"{where}.steps")
    origin = origin_of(stage, work.recipe.stages)
    asks = stage.trains or any(step.looks for step in steps)
    if origin is not None and origin.privacy is not None and asks:
        raise UsageError(
            f"{stage.from_} keeps its rows private, and would be trained on them without noise", where=where,
            expected="budget: none, and steps that look at weights alone: structured by l1, low-rank, magnitude",
        )  # fmt: skip
    stepping.begin(steps, _trial(stage, work, rows, where))


def _trial(stage: CompressStage, work: Work, rows: Tensor, where: str) -> Subject:
    """What a stage will start from, as far as that can be had before anything runs: of a few rows."""
    earlier: Any = {s.name: s for s in work.recipe.stages if isinstance(s, ModelStage)}.get(str(stage.from_))
    small = stage.model_copy(update={"batch_size": 2})
    if earlier is None:
        found = start(small, work, rows[:4])
    elif isinstance(earlier, CompressStage):
        found = _trial(earlier, work, rows, where)
        steps = make(earlier, where)
        stepping.begin(steps, found)
        stepping.end(steps, found.model.eval(), earlier.trains)
    elif isinstance(earlier, FinetuneStage):
        model, config, objective = start_supervised(_rooted(earlier, work), rows, work)
        if objective is not None and config.language:
            raise UsageError(
                f"{earlier.name} is a language model", where=f"{where}.from", expected="a classifier"
            )
        found = _with_objective(small, work, rows[:4], model, config)
    else:
        raise UsageError(
            f"{earlier.name} has no head to predict with", where=f"{where}.from", expected="a finetune stage"
        )
    found.model.eval()
    return found


def _rooted(stage: FinetuneStage, work: Work) -> FinetuneStage:
    """With the backbone that the first of the stages before it starts from."""
    stages = {s.name: s for s in work.recipe.stages if isinstance(s, ModelStage)}
    root: ModelStage = stage
    while root.from_ in stages:
        root = stages[root.from_]
    backbone = root.backbone or (default_backbone(work.dataset) if root is not stage else None)
    return stage.model_copy(update={"from_": root.from_, "backbone": backbone, "weights": root.weights})


def start(stage: CompressStage, work: Work, rows: Tensor) -> Subject:
    """The model that a stage starts from, and what it learns by."""
    assert stage.from_ is not None
    path = locate(stage.from_, getattr(work, "folder", None))
    return _with_objective(stage, work, rows, *_loaded(stage.from_, path, work))


def _loaded(start: str, path: Path, work: Work) -> tuple[Model, ModelConfig]:
    """A fitted network that reads these data and tells these targets."""
    config, dataset = model_folder.read_config(path), work.dataset
    refuse_other_inputs(config, dataset, start)
    image = dataset.preprocess if isinstance(dataset.preprocess, Preprocess) else None
    if config.image and image != config.image:
        raise UsageError(
            f"{start} takes {config.image}, and these data are {image}", where="data",
            expected=f"data.size: {config.image.size}",
        )  # fmt: skip
    _refuse_other_targets(start, config, work)
    model, config = model_folder.load(path, work.own_backbone())
    config.text = work.text if config.text else None
    return model, config


def _refuse_other_targets(start: str, config: ModelConfig, work: Work) -> None:
    theirs = {key: (t.column, t.task, t.classes) for key, t in config.targets.items()}
    ours = {key: (t.column, t.task, t.classes) for key, t in work.dataset.targets.items()}
    if theirs != ours:
        said = [
            " and ".join(f"{c} ({task})" for c, task, _ in found.values()) or "nothing"
            for found in (theirs, ours)
        ]
        raise UsageError(
            f"{start} predicts {said[0]}, and these data ask for {said[1]}", where="data.target",
            expected="the same targets with the same classes",
        )  # fmt: skip


def _with_objective(
    stage: CompressStage, work: Work, rows: Tensor, model: Model, config: ModelConfig
) -> Subject:
    """A model with what it learns by. UsageError where it learns nothing by gradients."""
    for key, head in model.heads.items():
        if isinstance(head, Estimated):
            raise UsageError(
                f"the head {config.heads[key]['name']} is estimated in one go, and there is no network to make smaller",
                where=f"{stage.name}.from", expected="a run with the head linear",
            )  # fmt: skip
    objective = _objective(stage, work, config)
    wanted = min(_LOOKED_AT * stage.batch_size, len(rows))
    sample = rows[:: len(rows) // wanted][:wanted]

    def batches() -> list[Batch]:
        return [gather(work.dataset.tensors, part) for part in sample.split(stage.batch_size)]

    return Subject(model, config, objective, batches, work.recipe.seed)


def _objective(stage: CompressStage, work: Work, config: ModelConfig) -> Objective:
    spec = stage.objective
    if spec.name == "auto":
        spec = _learnt_by(stage, work) or spec
    where = f"{stage.name}.objective"
    plain = {key: replace(target, quantiles=()) for key, target in config.targets.items()}
    objective = supervised(spec, plain, work.dataset.tensors, where)
    for key, target in plain.items():
        if objective.answer(key, target) != config.targets[key]:
            raise UsageError(
                f"{target.column} was learnt by another objective, whose head gives {config.targets[key].outputs} numbers",
                where=where, expected="that objective",
            )  # fmt: skip
    return objective


def _learnt_by(stage: CompressStage, work: Work) -> Spec | None:
    """The objective of the stage that a model comes from, where that is known."""
    origin = origin_of(stage, work.recipe.stages)
    return origin.objective if isinstance(origin, FinetuneStage) else None


def origin_of(stage: ModelStage, stages: Sequence[Any]) -> ModelStage | None:
    """The stage that fitted the model that a stage starts from, in this run or in another; None where nothing is kept of
    it."""
    start = stage.from_
    found = next((s for s in stages if isinstance(s, ModelStage) and s.name == start), None)
    if found is None and start is not None and os.path.exists(file := Path(start) / "recipe.yaml"):
        recipe = check_config(Recipe, read_yaml(file), where=str(file))
        stages, found = recipe.stages, next((s for s in recipe.stages if s.name == recipe.chosen), None)  # type: ignore[assignment]
    return origin_of(found, stages) if isinstance(found, CompressStage) else found
