"""What can be known to be wrong before the first stage runs: names before the data are read, the rest
once they are."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from jichu.adapt import lora, rules
from jichu.auditing import gates, parts
from jichu.core import devices
from jichu.core.config import Spec
from jichu.core.durations import Duration
from jichu.core.errors import DataError, JichuError, UsageError, nearest, shown
from jichu.core.names import construct, resolve
from jichu.core.randomness import guarded
from jichu.data.batches import gather
from jichu.data.conditions import parse
from jichu.data.dataset import Dataset
from jichu.data.schema import WEIGHT
from jichu.metrics import METRICS, metric
from jichu.models import BACKBONES, HEADS
from jichu.models.classical import Estimated
from jichu.models.folder import LANGUAGE, OF_INPUTS
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import PRETRAINING, Objective
from jichu.objectives.views import JointEmbedding
from jichu.objectives.wrapper import Wrapper
from jichu.train.config import TrainConfig
from jichu.train.trackers import tracked as trackers

from .build import (
    KINDS,
    TOKENS,
    Work,
    adaptation,
    augmenter,
    default_backbone,
    initialisation,
    pretraining_objective,
    start_model,
    start_supervised,
    usual,
)
from .config import (
    NOTHING,
    AuditStage,
    CompressStage,
    FinetuneStage,
    ModelStage,
    PretrainStage,
    Recipe,
    SupervisedStage,
)
from .language import objective_of
from .origins import check as check_compress
from .origins import check_start, make
from .results import measured
from .ruling import check_rules
from .stages import metric_functions, named_metric
from .targets import SEVERAL, of_each
from .weighing import check_reweigh
from .wrapping import wrapped, wrappers


def check_names(recipe: Recipe, objects: dict[str, Any]) -> None:
    """Every name resolves, every argument fits, every device and library is there."""
    _check_starts(recipe)
    for i, rule in enumerate(recipe.rules):
        parse(rule.rule, f"rules.{i}")
    for i, stage in enumerate(recipe.stages):
        where = f"stages.{i}"
        if isinstance(stage, ModelStage):
            if stage.backbone and stage.backbone.name != "auto" and "backbone" not in objects:
                construct("backbone", stage.backbone, BACKBONES, where=f"{where}.backbone",
                          **dict.fromkeys(OF_INPUTS))  # fmt: skip
            if stage.initialise:
                initialisation(stage.initialise, f"{where}.initialise", None)
            _check_training(stage, where)
        if isinstance(stage, PretrainStage) and stage.objective.name != "auto":
            _refuse_objective(stage.objective, "pretrain", where)
            construct(
                "objective",
                stage.objective,
                OBJECTIVES,
                where=f"{where}.objective",
                augment=None,
                tokenizer=None,
                tensors=None,
                rows=None,
            )
        if isinstance(stage, SupervisedStage):
            _check_supervised(stage, where)
        if isinstance(stage, CompressStage):
            make(stage, f"{where}.steps")
            check_start(stage, recipe, where)
        if isinstance(stage, FinetuneStage):
            construct(
                "head",
                stage.head,
                HEADS,
                where=f"{where}.head",
                width=1,
                outputs=1,
                task="",
                quantiles=(),
                categorical=None,
                backbone=None,
                bias=True,
                counts=False,
                series=None,
                steps=1,
            )
            if isinstance(stage.adapt, str):
                rules.refuse_unknown(stage.adapt)
            _refuse_idle_settings(stage, where)
        if isinstance(stage, AuditStage):
            _try_metrics(stage, objects, where)
            parts.make(recipe.questions(stage), f"{where}.parts")
            own = [named_metric(spec, f"{where}.metrics")[0] for spec in stage.metrics or []]
            columns = recipe.data.target if isinstance(recipe.data.target, list) else []
            _check_gates(stage, recipe, [*own, *METRICS, *objects.get("metrics", {})], where, columns)


def _check_supervised(stage: SupervisedStage, where: str) -> None:
    """The objective, and what goes around it."""
    if stage.objective.name != "auto":
        _refuse_objective(stage.objective, "finetune", where)
        together, each = of_each(stage.objective, f"{where}.objective")
        all_of_it = [together, *each.values()] if stage.objective.name == SEVERAL else [stage.objective]
        for spec in all_of_it:
            construct("objective", spec, OBJECTIVES, where=f"{where}.objective", targets=None, inner=None)
    for spec in stage.wrap:
        if "inner" not in inspect.signature(resolve("objective", spec.name, OBJECTIVES)).parameters:
            raise UsageError(
                f"{spec.name} goes around no other objective",
                where=f"{where}.wrap",
                expected=f"one of {', '.join(wrappers())}",
            )
        construct("objective", spec, OBJECTIVES, where=f"{where}.wrap", inner=None, targets=None,
                  spread=None)  # fmt: skip


def _check_gates(
    stage: AuditStage, recipe: Recipe, metrics: Collection[str], where: str, columns: Collection[str] = ()
) -> None:
    """Every gate is on a figure that there will be."""
    stages = [s.name for s in recipe.stages if isinstance(s, ModelStage)]
    gates.check(
        stage.gates, metrics, [p.name for p in recipe.questions(stage)], stages, columns, f"{where}.gates"
    )
    gates.parse(stage.gates, f"{where}.gates")


def _check_starts(recipe: Recipe) -> None:
    """Each stage starts from an earlier one, or from a run. (A recipe that ran is read also where that is gone.)"""
    trained: list[str] = []
    for stage in recipe.stages:
        start = getattr(stage, "from_", None)
        if start is not None and start not in trained and not (start and os.path.exists(start)):
            raise UsageError(
                f"{shown(start)} is neither an earlier stage with a model ({', '.join(trained) or 'there is none'})"
                " nor a run folder",
                where=f"stages.{stage.name}.from", expected="one of them", nearest=nearest(start, trained),
            )  # fmt: skip
        if isinstance(stage, ModelStage):
            trained.append(stage.name)


def _refuse_objective(spec: Spec, stage: str, where: str) -> None:
    """One of the other stage's, or one that goes around another."""
    task = getattr(resolve("objective", spec.name, OBJECTIVES, where=f"{where}.objective"), "task", None)
    if task == Wrapper.task:
        told, expected = "goes around another objective", f"wrap: [{spec.name}]"
    elif stage == "pretrain" and task not in (None, PRETRAINING):
        told = "learns from labels, which a pretrain stage does not look at"
        expected = "vicreg, simclr, causal or masked, or a finetune stage"
    elif stage == "finetune" and task == PRETRAINING:
        told = "learns from the data themselves, and a finetune stage from labels or answers"
        expected = "classification, multilabel, regression or answers, or a pretrain stage"
    else:
        return
    raise UsageError(f"{spec.name} {told}", where=f"{where}.objective", expected=expected)


def _check_training(stage: TrainConfig, where: str) -> None:
    devices.device(stage.device)
    trackers.check(stage, where)


def _refuse_idle_settings(stage: FinetuneStage, where: str) -> None:
    """A head that is estimated at once is not trained: what is said of training would do nothing."""
    head = resolve("head", stage.head.name, HEADS, where=f"{where}.head")
    if isinstance(head, type) and issubclass(head, Estimated):
        idle = sorted(stage.changed & {*TrainConfig.model_fields, "objective", "wrap", "augment"})
        if stage.adapt not in ("head", "full"):
            idle.append("adapt")
        if idle:
            raise UsageError(
                f"{idle[0]} does nothing with the head {stage.head.name}, which is estimated in one go",
                where=f"{where}.{idle[0]}",
                expected="no such key, or head: linear",
            )


_TRIALS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "classification": (np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])),
    "multilabel": (np.array([[0, 1], [1, 1], [1, 0]]), np.array([[0.1, 0.7], [0.6, 0.8], [0.3, 0.4]])),
    "regression": (np.array([0.5, 2.0, -1.0]), np.array([0.4, 2.5, -1.0])),
}


def _try_metrics(stage: AuditStage, objects: dict[str, Any], where: str) -> None:
    """Every metric gives a number for one of the tasks at least."""
    named = {
        spec.name: metric(spec.name, where=f"{where}.metrics", **spec.arguments)
        for spec in stage.metrics or []
    }
    for name, function in {**named, **objects.get("metrics", {})}.items():
        tasks = getattr(function, "tasks", _TRIALS)
        found = [_tried(function, *_TRIALS[task]) for task in tasks if task in _TRIALS]
        if found and not any(
            isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in found
        ):
            raise UsageError(
                f"the metric {name!r} gives {found[0]!r} on a trial",
                where=f"{where}.metrics", expected="a number from truth [N] and probabilities [N, K]",
            )  # fmt: skip


def _tried(function: Any, truth: np.ndarray, scores: np.ndarray) -> Any:
    try:
        return function(truth, scores)
    except Exception as error:  # it is the user's function: whatever it raises is the finding
        return error


def check_before(work: Work) -> None:
    """Every stage can be begun with these data: rows, labels, shapes, parameters to train."""
    dataset, recipe = work.dataset, work.recipe
    if dataset.kind == "table" and not dataset.table:
        raise DataError(
            "no column can be an input", where=dataset.source,
            expected="; ".join(f"{c['name']}: {c['note'] or c['role']}" for c in dataset.columns),
        )  # fmt: skip
    rows = dataset.splits["train"].numpy()
    media = dataset.preprocess is not None and dataset.equal is not None and len(rows) > 1
    if media and len(np.unique(cast(Any, dataset.equal)[rows])) == 1:
        raise DataError(
            f"the {len(rows):,} training {KINDS[dataset.kind]} are all the same", where=dataset.source,
            expected="different ones",
        )  # fmt: skip
    if recipe.rules:
        check_rules(work)
    _check_canaries(work)
    for i, stage in enumerate(recipe.stages):
        where = f"stages.{i}"
        if isinstance(stage, ModelStage):
            _check_durations(stage, dataset, where)
        if isinstance(stage, PretrainStage) and dataset.kind != "text" and len(dataset.splits["train"]) < 2:
            raise DataError(f"{len(dataset.splits['train'])} training rows", expected="at least two")
        if isinstance(stage, SupervisedStage):
            work.draw(0)
            _check_validation(stage, work, where)
            if stage.reweigh:
                check_reweigh(stage.reweigh, dataset, where)
        if isinstance(stage, (PretrainStage, FinetuneStage)):
            augmenter(stage, dataset)
            _check_model(stage, work, where)
        if isinstance(stage, CompressStage):
            augmenter(stage, dataset)
            check_compress(stage, work, where)
        if isinstance(stage, AuditStage):
            named = {}
            for key, target, _, _ in measured(recipe, dataset):
                several = len(dataset.targets) > 1 or key not in dataset.targets
                quantiles = target.task == "regression"
                named[target.column] = metric_functions(stage, work.objects, target, several, quantiles)
            first = next(iter(named.values()), {})
            _check_gates(stage, recipe, first, where, [*named][1:])
            every = {key: target for key, target, _, _ in measured(recipe, dataset)}
            parts.check(parts.make(recipe.questions(stage), f"{where}.parts"), dataset, every)
    audited = any(isinstance(s, AuditStage) for s in recipe.stages)
    if audited and not recipe.fitted and dataset.kind != "text":
        raise UsageError(
            "no stage predicts anything that could be measured", where="stages", expected="a finetune stage"
        )
    held_out = dataset.splits.get("test", torch.empty(0, dtype=torch.int64))
    if audited and not len(dataset.labelled("test") if recipe.fitted and len(held_out) else held_out):
        raise DataError(
            f"no labelled rows are held out of {dataset.source}, so that nothing can be measured",
            expected="more labelled rows of a class, or a larger data.split.test",
        )


def _check_canaries(work: Work) -> None:
    """The tokenizer can tell the secrets apart, and there is room for them."""
    canaries, tokenizer, text = work.dataset.canaries, work.tokenizer, work.text
    if canaries is None or tokenizer is None or text is None:
        return
    letters = canaries.config.letters
    ids = tokenizer.encode([*letters])
    bad = [c for c, i in zip(letters, ids, strict=True) if tokenizer.special.unknown in i or ids.count(i) > 1]
    if bad:
        raise UsageError(
            f"the tokenizer cannot tell {', '.join(bad)} of data.canaries.letters", where="data.canaries.letters",
            expected="letters of the training texts, or more canaries to learn them from",
        )  # fmt: skip
    whole = tokenizer.encode(["".join(canaries.asked(c.name, c.secret)) for c in canaries.drawn])
    read: Any = work.dataset.tensors[TOKENS]  # in which a conversation is longer
    most = max(*map(len, whole), int(read.texts.lengths[canaries.start :].max()))
    if most + 2 > text.context:
        raise UsageError(
            f"canaries of {most} tokens, and a context of {text.context}", where="data.canaries.format",
            expected=f"a context of {most + 2} at least, or shorter ones",
        )  # fmt: skip


def _check_durations(stage: TrainConfig, dataset: Dataset, where: str) -> None:
    for key in ("budget", "checkpoint_every"):
        if getattr(stage, key) == NOTHING:
            continue
        packed = key == "budget" and dataset.kind == "text" and isinstance(stage, PretrainStage)
        if Duration.parse(getattr(stage, key)).unit == "tokens" and not packed:
            raise UsageError(
                "only the budget of pretraining on texts is counted in tokens", where=f"{where}.{key}",
                expected="a time, epochs or steps",
            )  # fmt: skip


def _check_validation(stage: SupervisedStage, work: Work, where: str) -> None:
    found = "validation" in work.dataset.splits and len(work.dataset.labelled("validation"))
    waits = {"patience": stage.patience is not None, "schedule": stage.schedule.name == "plateau"}
    for key, wanted in waits.items():
        if wanted and not found:
            raise UsageError(
                f"{key} needs labelled validation rows",
                where=f"{where}.{key}", expected="data.split.validation above 0",
            )  # fmt: skip


def _check_model(stage: PretrainStage | FinetuneStage, work: Work, where: str) -> None:
    """Build the model, with fresh weights where an earlier stage will give them, and see that the rules
    leave something to train."""
    trained = {s.name: s for s in work.recipe.stages if isinstance(s, (PretrainStage, FinetuneStage))}
    root: Any = stage
    while root.from_ in trained:
        root = trained[root.from_]
    dataset, objective, pretrains = work.dataset, None, None
    rows = dataset.splits["train"]
    try:
        if isinstance(stage, FinetuneStage):
            backbone = root.backbone or (default_backbone(dataset) if root is not stage else None)
            kept = {"from_": root.from_, "backbone": backbone, "weights": root.weights}
            start = stage.model_copy(update=kept)
            drawn = work.draw(0)
            model, _, objective = start_supervised(start, drawn, work)
            weighted = bool(stage.reweigh) or WEIGHT in dataset.tensors
            for head in model.heads.values():
                if isinstance(head, Estimated):
                    head.check(dataset, weighted)
            if objective is not None:
                _check_wrapped(wrapped(stage, objective, work, drawn), drawn, dataset, where)
        else:
            pretrains = None if dataset.kind == "text" else _check_pretraining(stage, work, where)
            heads = {TOKENS: {"name": LANGUAGE}} if dataset.kind == "text" else {}
            model, _ = start_model(root, root.backbone, work, heads, {})
            if dataset.kind == "text":
                objective_of(stage.objective, model, cast(Any, work.tokenizer), f"{where}.objective")
        with torch.no_grad():
            model.eval().features(gather(work.dataset.inputs, rows[:2]))
        if pretrains is not None:
            with guarded(torch.device("cpu")):
                pretrains.bind(model, gather(work.dataset.inputs, rows[:2]))
    except JichuError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UsageError(
            f"the model cannot be built for these data: {str(error).splitlines()[0]}",
            where=f"{where}.backbone", expected=f"one that takes {dataset.preprocess or dataset.table}",
        ) from None  # fmt: skip
    if objective is not None and isinstance(stage, FinetuneStage):
        resolved = rules.resolve(adaptation(stage), model)
        lora.inject(model, resolved)
        assigned = rules.assign(model, resolved)
        if assigned and all(rule == "frozen" for rule in assigned.values()):
            raise UsageError(
                "every parameter is frozen", where=f"{where}.adapt", expected="something to train"
            )


def _check_wrapped(objective: Objective, drawn: Tensor, dataset: Dataset, where: str) -> None:
    """There are rows without label, where they are wanted."""
    if objective.unlabelled and not len(dataset.others(drawn)):
        raise UsageError(
            "every training row has a label, and rows without are to be learnt from", where=f"{where}.wrap",
            expected="data.labels_per_class or labels_share, which leave some out, or data with unlabelled rows",
        )  # fmt: skip


def _check_pretraining(stage: PretrainStage, work: Work, where: str) -> Objective:
    """What learns from images or tables. UsageError where it does not fit them."""
    name = usual(stage.objective, work.dataset).name
    objective = resolve("objective", name, OBJECTIVES)
    kinds, kind = getattr(objective, "kinds", ()), work.dataset.kind
    if kinds and kind not in kinds:
        every: dict[str, Any] = {n: resolve("objective", n, OBJECTIVES) for n in OBJECTIVES}
        fit = [n for n, made in every.items() if made.task == PRETRAINING and kind in made.kinds]
        raise UsageError(
            f"{name} learns from {' or '.join(KINDS[k] for k in kinds)}, and these data have none",
            where=f"{where}.objective", expected=f"one of {', '.join(fit)}",
        )  # fmt: skip
    if "augment" in stage.changed and "augment" not in inspect.signature(objective).parameters:
        raise UsageError(
            f"augment does nothing with {name}", where=f"{where}.augment", expected="no such key"
        )
    objective = pretraining_objective(stage, work)
    augment = getattr(objective, "augment", None)
    if kind == "table" and len(columns := [*work.dataset.table.kinds]) < 2:
        raise DataError(
            f"nothing goes with the one column {columns[0]}, so that there is nothing to learn without labels",
            where=work.dataset.source, expected="two columns at least",
        )  # fmt: skip
    ways = {"table": "swap, mask or noise, such as {swap: 0.3}",
            "audio": "shift, speed, gain, noise, times or bands, such as {times: 2}"}  # fmt: skip
    needs = isinstance(objective, JointEmbedding) and kind in ways
    if needs and augment is not None and not augment.changes(kind):
        raise UsageError(
            f"nothing changes these {KINDS[kind]}, so that there are no views of them",
            where=f"{where}.augment.{kind}", expected=ways[kind],
        )  # fmt: skip
    return objective
