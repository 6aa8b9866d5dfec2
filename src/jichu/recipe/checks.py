"""What can be known to be wrong before the first stage runs: names before the data are read, the rest
once they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from jichu.adapt import rules
from jichu.core import devices
from jichu.core.durations import Duration
from jichu.core.errors import DataError, JichuError, UsageError, missing_extra
from jichu.core.names import construct, resolve
from jichu.models import BACKBONES, HEADS
from jichu.models.classical import Estimated
from jichu.objectives import OBJECTIVES
from jichu.train.config import TrainConfig

from .config import AuditStage, FinetuneStage, PretrainStage, Recipe
from .stages import Work, adaptation, metric_functions, start_model, supervised_objective


def check_names(recipe: Recipe, objects: dict[str, Any]) -> None:
    """Every name resolves, every argument fits, every device and library is there."""
    for i, stage in enumerate(recipe.stages):
        where = f"stages.{i}"
        if isinstance(stage, (PretrainStage, FinetuneStage)):
            if stage.backbone and "backbone" not in objects:
                construct(
                    "backbone", stage.backbone, BACKBONES, where=f"{where}.backbone", channels=1, size=8
                )
            _check_training(stage, where)
        if isinstance(stage, PretrainStage):
            construct("objective", stage.objective, OBJECTIVES, where=f"{where}.objective", augment=None)
        if isinstance(stage, FinetuneStage):
            construct("head", stage.head, HEADS, where=f"{where}.head", width=1, outputs=1)
            construct("objective", stage.objective, OBJECTIVES, where=f"{where}.objective")
            for spec in stage.wrap:
                construct("objective", spec, OBJECTIVES, where=f"{where}.wrap", inner=None)
            rules.resolve(adaptation(stage))
            _refuse_idle_settings(stage, where)
        if isinstance(stage, AuditStage):
            _try_metrics(stage, objects, where)


def _check_training(stage: TrainConfig, where: str) -> None:
    devices.device(stage.device)
    for key in ("budget", "checkpoint_every"):
        if Duration.parse(getattr(stage, key)).unit == "tokens":
            raise UsageError(
                "images have no tokens", where=f"{where}.{key}", expected="a time, epochs or steps"
            )
    if stage.tensorboard:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError:
            raise missing_extra("tensorboard", "tensorboard") from None


def _refuse_idle_settings(stage: FinetuneStage, where: str) -> None:
    """A head that is estimated at once is not trained: what is said of training would do nothing."""
    head = resolve("head", stage.head.name, HEADS, where=f"{where}.head")
    if isinstance(head, type) and issubclass(head, Estimated):
        idle = sorted(stage.model_fields_set & {*TrainConfig.model_fields, "objective", "wrap", "augment"})
        if stage.adapt not in ("head", "full"):
            idle.append("adapt")
        if idle:
            raise UsageError(
                f"{idle[0]} does nothing with the head {stage.head.name}, which is estimated in one go",
                where=f"{where}.{idle[0]}",
                expected="no such key, or head: linear",
            )


def _try_metrics(stage: AuditStage, objects: dict[str, Any], where: str) -> None:
    truth, scores = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    for name, metric in metric_functions(stage, objects).items():
        try:
            value = metric(truth, scores)
        except Exception as error:  # it is the user's function: whatever it raises is the finding
            value = error
        if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
            raise UsageError(
                f"the metric {name!r} gives {value!r} on a trial",
                where=f"{where}.metrics",
                expected="a number from truth [N] and probabilities [N, K]",
            )


def check_before(work: Work) -> None:
    """Every stage can be begun with these data: rows, labels, shapes, parameters to train."""
    dataset, recipe = work.dataset, work.recipe
    for i, stage in enumerate(recipe.stages):
        where = f"stages.{i}"
        if isinstance(stage, PretrainStage):
            if len(dataset.splits["train"]) < 2:
                raise DataError(f"{len(dataset.splits['train'])} training rows", expected="at least two")
            if stage.accumulate > 1:
                raise UsageError(
                    f"{stage.objective.name} compares the rows of a batch, which cannot be cut",
                    where=f"{where}.accumulate", expected=1,
                )  # fmt: skip
        if isinstance(stage, FinetuneStage):
            dataset.draw(recipe.data.labels_per_class, seed=recipe.seed, draw=0)
            _check_validation(stage, work, where)
        if isinstance(stage, (PretrainStage, FinetuneStage)):
            _check_model(stage, work, where)
    held_out = len(dataset.labelled("test")) if "test" in dataset.splits else 0
    if any(isinstance(s, AuditStage) for s in recipe.stages) and not held_out:
        raise DataError(
            f"no labelled rows are held out of {dataset.source}, so that nothing can be measured",
            expected="at least two labelled images of a class, and data.split.test above 0",
        )


def _check_validation(stage: FinetuneStage, work: Work, where: str) -> None:
    found = "validation" in work.dataset.splits and len(work.dataset.labelled("validation"))
    if stage.patience is not None and not found:
        raise UsageError(
            "patience needs labelled validation rows",
            where=f"{where}.patience", expected="data.split.validation above 0",
        )  # fmt: skip


def _check_model(stage: PretrainStage | FinetuneStage, work: Work, where: str) -> None:
    """Build the model, with fresh weights where an earlier stage will give them, and see that the rules
    leave something to train."""
    trained = {s.name: s for s in work.recipe.stages if isinstance(s, (PretrainStage, FinetuneStage))}
    root = stage
    while root.from_ in trained:
        root = trained[root.from_]
    heads = {"label": stage.head.model_dump()} if isinstance(stage, FinetuneStage) else {}
    try:
        model, config = start_model(root.from_, root.backbone, work, heads)
        with torch.no_grad():
            image = torch.zeros(2, config.preprocess.channels, config.preprocess.size, config.preprocess.size)
            model.eval()({"image": image})
    except JichuError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"the model cannot be built for these images: {str(error).splitlines()[0]}",
            where=f"{where}.backbone", expected=f"one that takes {work.dataset.preprocess}",
        ) from None  # fmt: skip
    if isinstance(stage, FinetuneStage):
        supervised_objective(stage, work)
        estimated = any(isinstance(head, Estimated) for head in model.heads.values())
        assigned = rules.assign(model, rules.resolve(adaptation(stage))) if not estimated else {}
        if assigned and all(rule == "frozen" for rule in assigned.values()):
            raise UsageError(
                "every parameter is frozen", where=f"{where}.adapt", expected="something to train"
            )
