"""What each stage of a recipe does."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jichu.auditing import data_page, gates, measure, parts
from jichu.auditing import table as tables
from jichu.auditing.kept import Kept
from jichu.core import devices
from jichu.core.config import Spec
from jichu.core.durations import Duration
from jichu.core.files import fingerprint, fingerprint_of_file, read_json, write_json, write_table
from jichu.core.folder import RunFolder
from jichu.core.progress import say
from jichu.core.ranks import gather_objects
from jichu.core.words import speaking
from jichu.data.batches import Batches
from jichu.data.dataset import Dataset
from jichu.data.groups import together
from jichu.data.inspection import inspect as look_into
from jichu.data.poisson import PoissonBatches
from jichu.data.schema import LABEL, WEIGHT
from jichu.data.target import Target, Task
from jichu.metrics import fits, metric
from jichu.models import folder as model_folder
from jichu.models.backbone import Features
from jichu.models.classical import Estimated
from jichu.models.model import Model
from jichu.models.modes import evaluating
from jichu.objectives.views import collapse
from jichu.train.fit import fit
from jichu.train.fitted import Fitted
from jichu.train.predict import embed, predict
from jichu.train.probes import KNN, LINEAR, TASKS, Probe
from jichu.train.trackers.tracked import conclude

from . import answers, language
from .build import (
    TOKENS,
    Work,
    pretraining_objective,
    start_model,
    start_supervised,
    tell_start,
    usual,
)
from .calibrating import calibrated
from .compress import compress
from .config import AuditStage, CompressStage, FinetuneStage, InspectStage, ModelStage, PretrainStage, Recipe
from .fitting import train
from .reading import reader
from .results import Result, look, measured, part_of, result, settle_adapters, unseen
from .weighing import reweighed

_POPULATION = 10_000  # training rows that the features' mean and deviation are taken from
_PROBED = 10  # rows trained on for each that a probe looks at, if nothing is said
_FEWEST = 20  # labelled rows that a probe is worth it with
COMPRESSED = "what was made smaller is not trained anew"
WRITTEN, ONCE = ("language", "text"), "models that write are not trained anew"  # the tasks of these


def inspect(stage: InspectStage, work: Work) -> Result:
    """Say what the data are, and show it on a page of its own."""
    if not work.folder.writes:  # one process looks for all
        return {"metrics": {}}
    found = look_into(work.dataset)
    for name, split in found["splits"].items():
        counts = ", ".join(f"{c} {n}" for c, n in list(split["classes"].items())[:12])
        more = " …" if len(split["classes"]) > 12 else ""
        blind = f", {split['unlabelled']} without label" if split["unlabelled"] else ""
        say(f"  {name}: {split['rows']} rows{blind}" + (f" ({counts}{more})" if counts else ""))
    near = found["near_duplicates"]["pairs"]
    equal = f"{found['duplicates']['exact']} exact duplicates" + (f", {near} nearly so" if near else "")
    if work.dataset.preprocess is not None:
        say(f"  {work.dataset.preprocess}; {equal}")
    elif work.dataset.series is not None:
        (target,) = work.dataset.targets.values()
        say(
            f"  windows of {work.dataset.series.steps} steps; the next {target.steps} of {target.column} are told"
        )
    elif work.tokenizer is not None and work.text is not None:
        tokens = cast(Any, work.dataset.tensors[TOKENS]).texts.lengths.double()
        say(
            f"  texts of {tokens.mean():,.0f} tokens on average, a context of {work.text.context}, a vocabulary of"
            f" {len(work.tokenizer):,}; {equal}"
        )
    else:
        numbers, categories = len(work.dataset.table.number_names), len(work.dataset.table.categories)
        say(f"  inputs: {numbers} numbers, {categories} categories; {equal}")
    for remark in found["remarks"]:
        say(f"  remark: {remark}")
    with speaking(work.recipe.language):
        data_page.write(work.folder.data_page, work.dataset, found)
    kept = ("rows", "splits", "duplicates", "quarantined")
    return {"metrics": {key: found[key] for key in kept}, "warnings": found["remarks"]}


def pretrain(stage: PretrainStage, work: Work) -> Result:
    """Train a backbone without labels, and say so where it collapsed."""
    dataset = work.dataset
    if dataset.kind == "text":
        return language.pretrain(stage, work)
    model, config = start_model(stage, stage.backbone, work, heads={}, targets={})
    objective, rows = pretraining_objective(stage, work), dataset.splits["train"]
    order: dict[str, Any] = {"batch_size": stage.batch_size, "seed": work.recipe.seed}
    if stage.privacy is None:
        batches = Batches(dataset.inputs, rows, drop_last=True, **order)
    else:
        batches = PoissonBatches(dataset.inputs, rows, secret=stage.privacy.secret, **order)
    tell_start(stage, work, usual(stage.objective, dataset).name)
    remarks = look(model, stage, rows, work, stage.name)
    probe = _probe(work)
    if probe is not None and stage.evaluate_every is None:
        stage = stage.model_copy(update={"evaluate_every": -(-_PROBED * probe.rows // stage.batch_size)})
    fitted = fit(model, objective, batches, stage, evaluate=probe, monitor=LINEAR, seed=work.recipe.seed,
                 folder=work.folder, name=stage.name, resume=work.resume, records=dataset.names)  # fmt: skip
    remarks += fitted.remarks
    last: dict[str, Any] = next((row for row in reversed(fitted.history) if "loss" in row), {})
    if found_collapse := collapse(last, getattr(objective, "against_collapse", "")):
        remarks.append(f"{stage.name}: {found_collapse}")
        say(f"warning: {remarks[-1]}")
    if work.folder.writes:
        model_folder.save(work.folder.stage_model(stage.name), model, config, work.tokenizer)
    told = ("loss", "effective_rank", "rank_share", "spread", "alignment", "uniformity")
    found: dict[str, Any] = {key: last[key] for key in told if key in last}
    found |= next(
        ({k: row[k] for k in (KNN, LINEAR)} for row in reversed(fitted.history) if LINEAR in row), {}
    )
    found["epochs"] = fitted.rows / len(rows)
    return {**result(fitted, model, work, stage.name, found), "warnings": remarks}


def _probe(work: Work) -> Probe | None:
    """What measures features on the way, where there are labels to measure them by."""
    dataset, target = work.dataset, work.dataset.targets.get(LABEL)
    if target is None or target.task not in TASKS:
        return None
    train, validation = (
        dataset.splits["train"],
        dataset.splits.get("validation", torch.empty(0, dtype=torch.int64)),
    )
    rows, held_out = train[dataset.known(train)], validation[dataset.known(validation)]
    target = dataset.about_targets(rows)[LABEL]
    if len(rows) < _FEWEST or (target.task == "classification" and len(target.classes) < 2):
        return None
    return Probe(work.dataset.inputs, target, dataset.tensors[LABEL], rows, held_out, work.recipe.seed)


def finetune(stage: FinetuneStage, work: Work) -> Result:
    """Fit to the targets, once for each draw of labels, and predict the held-out rows."""
    dataset, recipe = work.dataset, work.recipe
    if any(target.task == "text" for target in dataset.targets.values()):
        return answers.finetune(stage, work)
    held_out = dataset.labelled("test") if "test" in dataset.splits else torch.empty(0, dtype=torch.int64)
    draws = recipe.data.draws
    fitted = Fitted()
    model: Model | None = None
    features: dict[str, Tensor] = {}
    remarks: list[str] = []
    for draw in range(draws):
        started = time.monotonic()
        name = stage.name if draws == 1 else f"{stage.name}/{draw}"
        parts = {key: part_of(work, stage.name, draw, key) for key in dataset.targets}
        told = work.folder.parts / f"{stage.name}.{draw}.json"
        whole = work.resume and all(p.exists() for p in [told, *parts.values()])
        if gather_objects(whole)[0]:  # as the first process sees it
            kept = read_json(told)
            _count(fitted, kept)
            remarks = remarks or kept["remarks"]
            continue
        rows = work.draw(draw)
        weighed = work.on(reweighed(dataset, stage.reweigh, rows)) if stage.reweigh else work
        model, config, supervised = start_supervised(stage, rows, weighed, draw)
        once, based = Fitted(), False
        if supervised is None:
            if stage.from_ is None and any(True for _ in model.backbone.parameters()):
                features.clear()  # each draw has fresh weights
            outputs = _estimate(model, config.targets, rows, held_out, weighed, features)
        else:
            remarks = remarks or look(model, stage, rows, work, name)
            once = train(model, supervised, stage, rows, weighed, name)
            based = settle_adapters(model, stage, work, keep=draw == 0)
            remarks += once.remarks
            outputs = predict(model, work.dataset.inputs, held_out, list(config.targets))
        config.targets = calibrated(model, config.targets, stage, work)
        remarks += unseen(config.targets) if draw == 0 else []
        spent = time.monotonic() - started + once.before
        about = {
            key: getattr(once, key)
            for key in ("steps", "rows", "seconds", "before", "utilisation", "phases", "trained", "privacy")
        }
        _count(fitted, about)
        if work.folder.writes:
            if draw == 0:
                kept_in = work.folder.stage_model(stage.name)
                model_folder.save(kept_in, model, config, work.tokenizer, weights=not based)
            # to a later session all of it is time spent before
            write_json(told, about | {"before": spent, "remarks": remarks})
            for key, target in config.targets.items():
                known = dataset.known(held_out, key)
                rows_, truth = held_out[known], dataset.tensors[key][held_out[known]]
                made = tables.make(stage.name, draw, rows_, dataset.names, target, truth, outputs[key][known])
                write_table(parts[key], made)
    if model is None:  # every draw was there already
        model, _ = model_folder.load(work.folder.stage_model(stage.name), work.own_backbone())
    labelled = len(work.draw(0))
    metrics = {"draws": draws, "labelled_rows": labelled}
    return {**result(fitted, model, work, stage.name, metrics), "warnings": remarks}


def _count(fitted: Fitted, draw: dict[str, Any]) -> None:
    """Add what one draw came to."""
    fitted.steps, fitted.rows = draw["steps"], fitted.rows + draw["rows"]
    fitted.seconds, fitted.before = fitted.seconds + draw["seconds"], fitted.before + draw["before"]
    fitted.utilisation, fitted.trained = draw["utilisation"], draw["trained"]
    fitted.privacy = draw["privacy"]
    for phase, spent in draw["phases"].items():
        fitted.phases[phase] = fitted.phases.get(phase, 0.0) + spent


def _estimate(
    model: Model, targets: dict[str, Target], rows: Tensor, held_out: Tensor, work: Work,
    features: dict[str, Tensor],
) -> dict[str, Tensor]:  # fmt: skip
    """Estimate the heads; their outputs for the held-out rows. Features of the rows that every draw looks
    at are computed once and kept in `features`."""
    if not features:
        train = work.dataset.splits["train"]
        sample = train[:: max(1, len(train) // _POPULATION)]
        features |= {
            name: embed(model, work.dataset.inputs, r)
            for name, r in (("train", sample), ("held out", held_out))
        }
    outputs = {}
    with evaluating(model):
        for key, target in targets.items():
            head = model.heads[key]
            assert isinstance(head, Estimated)
            mine = rows[work.dataset.known(rows, key)]
            truth = work.dataset.tensors[key][mine]
            if target.task == "regression":
                truth = (truth - target.mean) / target.std
            if target.task == "forecast":
                truth = (truth - torch.tensor(target.means)) / torch.tensor(target.stds)
            given = {WEIGHT: work.dataset.tensors[WEIGHT][mine]} if WEIGHT in work.dataset.tensors else {}
            if head.by:
                codes = together(work.dataset, head.by, mine.numpy()).codes
                given["groups"] = torch.from_numpy(codes)[mine]
            head.estimate(embed(model, work.dataset.inputs, mine), truth, features["train"], **given)
            outputs[key] = head(Features(features["held out"])) if len(held_out) else torch.empty(0)
    return outputs


def audit(stage: AuditStage, work: Work) -> Result:
    """Measure every model on the held-out rows."""
    found: dict[str, Any] = {}
    places = [work.folder.stage_model(s.name) for s in work.recipe.stages if isinstance(s, ModelStage)]
    questions = parts.make(work.recipe.questions(stage))
    kept_so_far = kept_in(work.folder, work.recipe, work.dataset, places) if questions else Kept()
    for key, target, names, draws in measured(work.recipe, work.dataset):
        files = [part_of(work, name, draw, key) for name in names for draw in range(draws)]
        kept = work.folder.predictions_of(key) if found else work.folder.predictions
        if all(f.exists() for f in files) or not kept.exists():
            table = pa.concat_tables([tables.read(f) for f in files]).unify_dictionaries()
        else:  # this stage is run again, after the run was at its end
            table = tables.read(kept)
        models = {name: model_folder.read_config(work.folder.stage_model(name)) for name in names}
        if target.task == "forecast":  # with the units in which it is measured
            target = next(iter(models.values())).targets[key]
        levels = {name: m.targets[key].quantiles for name, m in models.items() if key in m.targets}
        several = len(work.dataset.targets) > 1 or key not in work.dataset.targets
        metrics = metric_functions(stage, work.objects, target, several, any(levels.values()))
        metrics = applicable(metrics, table, target, work.dataset)
        gain = stage.gain if set(stage.gain or []) <= set(names) else None
        mine = measure.measure(table, target, metrics, gain, quantiles=levels, seed=work.recipe.seed)
        # with the units in which a number was learnt, and its quantiles
        learnt = next((m.targets[key] for m in models.values() if key in m.targets), target)
        subject = _subject(work, key, learnt, table, kept_so_far)
        mine["parts"] = parts.measured(questions, subject, first=not found)
        if not found:
            found = mine
        else:
            found.setdefault("others", {})[target.column] = mine
        if work.folder.writes:
            write_table(kept, table)
    found["gates"] = gates.measured(
        gates.parse(stage.gates), found, measure.chosen(found, work.recipe.chosen)
    )
    if work.folder.writes:
        write_json(work.folder.audit, found)
        for one in work.recipe.stages:
            if isinstance(one, ModelStage):
                conclude(one, work.folder, one.name, gates.concluded(found, one.name))
    told = {"primary": found["primary"], **measure.headline(found)}
    return {"metrics": told, "gates": found["gates"]}


def _subject(work: Work, key: str, target: Target, table: pa.Table, so_far: Kept) -> parts.Subject:
    """What the parts of an audit are asked about."""
    dataset, recipe = work.dataset, work.recipe
    stages = sorted(
        (s.name for s in recipe.stages if isinstance(s, ModelStage)), key=lambda n: n != recipe.chosen
    )

    @functools.lru_cache(1)
    def load(stage: str) -> Model:
        return model_folder.load(work.folder.stage_model(stage), work.own_backbone())[0]

    def reads(stage: str) -> parts.Reader | None:
        config = next(s for s in recipe.stages if s.name == stage)
        return reader(cast(ModelStage, config), load(stage), dataset, work.tokenizer, work.text)

    rows = dataset.labelled("test") if key in dataset.targets else dataset.splits["test"]
    return parts.Subject(
        dataset, rows, key, target, table, tuple(stages), load, work.folder.stage_model, recipe.seed,
        trained_on(recipe, dataset, key), work.tokenizer,
        _retraining(work, target), reads, so_far,
    )  # fmt: skip


def _retraining(work: Work, target: Target) -> Callable[[str, Tensor, int], Model] | str:
    """How a stage is fitted to other rows, or why none is."""
    if target.task in WRITTEN:
        return ONCE
    if any(isinstance(stage, CompressStage) for stage in work.recipe.stages):
        return COMPRESSED
    return functools.partial(retrain, work)


def trained_on(recipe: Recipe, dataset: Dataset, key: str) -> Tensor:
    """The rows that were learnt from: labelled ones, of the first draw; of what is written all but planted ones."""
    config, target = recipe.data, dataset.targets.get(key)
    if target is not None and target.task not in WRITTEN:
        return dataset.draw(config.labels_per_class, share=config.labels_share, seed=recipe.seed, draw=0)
    rows = dataset.splits["train"] if target is None else dataset.labelled("train")
    return rows if dataset.canaries is None else rows[rows < dataset.canaries.start]


def kept_in(folder: RunFolder, recipe: Recipe, dataset: Dataset, models: list[Path]) -> Kept:
    """Where findings wait until an audit is done, by all that it is about: the recipe, the data, the models."""
    files = [file for model in models for file in sorted(model.rglob("*")) if file.is_file()]
    about = (devices.environment()["versions"], recipe.plain(), dataset.fingerprint)
    return Kept(folder.findings, fingerprint(*about, *map(fingerprint_of_file, files)))


def retrain(work: Work, name: str, rows: Tensor, number: int) -> Model:
    """A stage fitted once more, to other rows, as it was computed before; nothing of it is kept."""
    stage = next(s for s in work.recipe.stages if s.name == name)
    assert isinstance(stage, FinetuneStage)
    stage = _as_planned(stage, work.folder)
    work = work.on(reweighed(work.dataset, stage.reweigh, rows)) if stage.reweigh else work
    model, config, supervised = start_supervised(stage, rows, work, work.recipe.data.draws + number)
    if supervised is None:
        _estimate(model, config.targets, rows, rows[:0], work, {})
    else:
        train(model, supervised, stage, rows, work, f"{name} again", kept=False)
    return model.eval()


def _as_planned(stage: FinetuneStage, folder: RunFolder) -> FinetuneStage:
    """With what was measured when it was trained: how a step is computed and, of a budget in time, the steps of it."""
    plans = folder.notes().get("plans", {})
    plan = plans.get(stage.name) or plans.get(f"{stage.name}/0")
    if plan is None:  # its heads are estimated
        return stage
    told = {key: plan[key] for key in ("precision", "memory_format", "threads")} | {
        "compile": plan["compiled"]
    }
    if Duration.parse(stage.budget).unit == "seconds":
        told["budget"] = f"{plan['steps']} steps"
    return stage.model_copy(update=told)


def metric_functions(
    stage: AuditStage, objects: dict[str, Any], target: Target, several: bool = False, quantiles: bool = False
) -> dict[str, Any]:
    """The metrics by name: those of the recipe (or the usual ones of the target's task), then those given
    in Python. UsageError where one does not fit the task."""
    usual = [Spec(name=name) for name in measure.USUAL[target.task]]
    usual += [Spec(name="pinball")] if quantiles else []
    specs = stage.metrics or usual
    if several:  # each metric measures the targets it is for
        specs = [s for s in specs if ":" in s.name or s.name in fits(target.task)] or usual
    return dict(named_metric(spec, "metrics", target.task) for spec in specs) | objects.get("metrics", {})


def named_metric(spec: Spec, where: str, task: Task | None = None) -> tuple[str, Any]:
    """What an audit calls a metric, and the metric."""
    function: Any = metric(spec.name, task=task, where=where, **spec.arguments)
    return function.__name__ if spec.arguments else spec.name.rpartition(":")[2], function


def applicable(metrics: dict[str, Any], table: pa.Table, target: Target, dataset: Dataset) -> dict[str, Any]:
    """Without those that say nothing here: a conversation has many right answers, and without its bytes a text
    was not predicted whole."""
    left_out = {"exact_match"} if dataset.chat else set()
    if target.task == "language" and not pc.sum(pc.list_element(table["truth"], 1)).as_py():
        left_out.add("bits_per_byte")
    return {name: function for name, function in metrics.items() if name not in left_out}


STAGES: dict[str, Callable[[Any, Work], Result]] = {
    "inspect": inspect,
    "pretrain": pretrain,
    "finetune": finetune,
    "compress": compress,
    "audit": audit,
}
