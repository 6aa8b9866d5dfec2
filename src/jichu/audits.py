"""A run's model measured once more: on its held-out rows, or on other data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from torch import Tensor

from jichu.auditing import gates as gates_of_audit
from jichu.auditing import measure, table
from jichu.auditing import parts as parts_of_audit
from jichu.auditing.kept import Kept
from jichu.core.config import check
from jichu.core.errors import DataError, UsageError
from jichu.core.errors import unknown as unknown_name
from jichu.data.dataset import Dataset
from jichu.data.schema import LABEL
from jichu.data.source import UNLABELLED
from jichu.data.target import Target
from jichu.models.generate import is_whole
from jichu.models.model import Model
from jichu.objectives.language import Answers
from jichu.recipe import answers
from jichu.recipe.build import TOKENS, Work, locate
from jichu.recipe.config import AuditStage, FinetuneStage, ModelStage, PretrainStage
from jichu.recipe.language import Reading, objective_of
from jichu.recipe.reading import reader
from jichu.recipe.results import TEXTS
from jichu.recipe.stages import (
    COMPRESSED,
    ONCE,
    WRITTEN,
    applicable,
    kept_in,
    metric_functions,
    retrain,
    trained_on,
)
from jichu.runs import Run
from jichu.train.predict import predict


def audit(
    run: Run | str | Path, data: Any = None, metrics: dict[str, Any] | None = None, split: str = "test",
    parts: Sequence[str | dict[str, Any]] = (), gates: Mapping[str, float | str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a run's model on its held-out rows, or on other data (all labelled rows, or all texts, where
    those come without splits), by the metrics of its recipe or by others. Classes are matched by name. `parts` are what else is asked, and `gates` what figures have to
    be, as in a recipe. Gives {"models", "classes", "primary", "parts", "gates", …}; of a gate that does not hold
    "holds" is False, and nothing is raised."""
    run = run if isinstance(run, Run) else Run(run)
    stage = check(AuditStage, {"parts": list(parts), "gates": dict(gates or {})}, where="audit")
    if metrics is None:  # those of the recipe's own audit
        stage = stage.model_copy(update={"metrics": run.recipe.audit and run.recipe.audit.metrics})
    questions = parts_of_audit.make(run.recipe.questions(stage))
    if not run.config.language:
        run.require_head()
    targets = run.targets or {TOKENS: TEXTS}
    dataset, rows = held_out(run, data, split)
    parts_of_audit.check(questions, dataset, targets)
    named = {
        key: metric_functions(
            stage, {"metrics": metrics or {}}, target, len(targets) > 1, bool(target.quantiles)
        )
        for key, target in targets.items()
    }
    columns = [target.column for target in targets.values()]
    gates_of_audit.check(stage.gates, next(iter(named.values())), questions, [run.recipe.name], columns[1:])
    asked = gates_of_audit.parse(stage.gates)
    tables = _of_language(run, dataset, rows) if run.config.language else _of_heads(run, dataset, rows)
    found: dict[str, Any] = {}
    kept = kept_in(run.folder, run.recipe, dataset, [run.folder.model]) if questions else Kept()
    for key, target in targets.items():
        functions = applicable(named[key], tables[key], target, dataset)
        levels = {run.recipe.name: target.quantiles}
        mine = measure.measure(tables[key], target, functions, quantiles=levels, seed=run.recipe.seed)
        subject = _subject(run, dataset, rows, key, target, tables[key], data, kept)
        mine["parts"] = parts_of_audit.measured(questions, subject, first=not found)
        if not found:
            found = mine
        else:
            found.setdefault("others", {})[target.column] = mine
    if questions:
        shutil.rmtree(run.folder.findings, ignore_errors=True)
    return found | {"gates": gates_of_audit.measured(asked, found, run.recipe.name)}


def held_out(run: Run, data: Any, split: str) -> tuple[Dataset, Tensor]:
    """A run's data, or others, in the codes that its model has, and the rows of a split with a value of a target; of other
    data without splits all."""
    dataset = run.dataset(data)
    if split in dataset.splits and (data is None or dataset.splits_given):
        rows = dataset.labelled(split) if run.targets else dataset.splits[split]
    elif data is not None and split == "test":
        rows = _usable(dataset, bool(run.targets))
        dataset = replace(dataset, splits={split: rows})  # none of them are there to learn from
    else:
        raise unknown_name("split", split, dataset.splits)
    return dataset if run.config.language else _in_the_models_codes(run, dataset, rows), rows


def metrics_of(run: Run, target: Target) -> dict[str, Any]:
    """The metrics of a run's own audit that are for one of its targets, by name; the usual ones where it has none."""
    return metric_functions(run.recipe.audit or AuditStage(), {}, target, several=True)


def _subject(
    run: Run, dataset: Dataset, rows: Tensor, key: str, target: Target, found: pa.Table, data: Any, kept: Kept
) -> parts_of_audit.Subject:
    """What the parts of an audit are asked about."""
    recipe, model, inputs = run.recipe, cast(Model, run.model), run.config.text
    stage = next(s for s in recipe.stages if isinstance(s, ModelStage) and s.name == recipe.chosen)
    tokenizer = run.tokenizer if inputs else None
    other = _other_data(run, dataset, data)
    return parts_of_audit.Subject(
        dataset, rows, key, target, found, (recipe.name,), lambda _: model, lambda _: run.folder.model, recipe.seed,
        torch.empty(0, dtype=torch.int64) if other else trained_on(recipe, dataset, key), tokenizer,
        other or _retraining(run, stage, dataset, target),
        lambda _: reader(stage, model, dataset, tokenizer, inputs), kept,
    )  # fmt: skip


def _other_data(run: Run, dataset: Dataset, data: Any) -> str:
    """Why these are not the data that a run was trained on; nothing where they are."""
    if data is not None:
        return "these are not the data that the run was trained on"
    made = run.folder.made_of(dataset.fingerprint)
    return "" if made else "the data have changed since the run was trained"


def _retraining(
    run: Run, stage: ModelStage, dataset: Dataset, target: Target
) -> Callable[[str, Tensor, int], Model] | str:
    """How the run's own stage is fitted to other rows, or why it cannot be."""
    if target.task in WRITTEN:
        return ONCE
    if not isinstance(stage, FinetuneStage):
        return COMPRESSED
    if "from" in run.config.backbone:
        return "its backbone was given in Python and not by name"
    if stage.from_ is not None:
        try:
            locate(stage.from_, run.folder)
        except UsageError as error:
            return str(error)
    inputs = run.config.text
    work = Work(run.recipe, dataset, tokenizer=run.tokenizer if inputs else None, text=inputs)
    work.folder = run.folder
    return lambda _, rows, number: retrain(work, stage.name, rows, number)


def _of_heads(run: Run, dataset: Dataset, rows: Tensor) -> dict[str, pa.Table]:
    """What the heads say of each row, by target."""
    outputs = predict(run.model, dataset.tensors, rows, list(run.targets))
    found = {}
    for key, target in run.targets.items():
        known = dataset.known(rows, key)
        truth = dataset.tensors[key][rows[known]]
        found[key] = table.make(
            run.recipe.name, 0, rows[known], dataset.names, target, truth, outputs[key][known]
        )
    return found


def _of_language(run: Run, dataset: Dataset, rows: Tensor) -> dict[str, pa.Table]:
    """How likely a language model finds texts, or the answers to them, and what it answers."""
    inputs, model, name, seed = run.config.text, cast(Model, run.model), run.recipe.name, run.recipe.seed
    assert inputs is not None
    if not len(rows):
        raise DataError("no texts to measure on", expected="one at least")
    if run.targets:
        if LABEL not in dataset.texts:
            raise DataError("the data have no answers", expected=f"the column {run.targets[LABEL].column!r}")
        columns = answers.answering(dataset, run.tokenizer, inputs.context, whole=is_whole(model.backbone))
        made = answers.measured(model, Answers(), columns, dataset, run.tokenizer, rows, name, seed)
        return {LABEL: made}
    stage = next(s for s in run.recipe.stages if s.name == run.recipe.chosen)
    assert isinstance(stage, PretrainStage)
    objective = objective_of(stage.objective, model, run.tokenizer, f"{stage.name}.objective")
    reading = Reading(objective, dataset, run.tokenizer, inputs.context, seed)
    return {TOKENS: reading.measured(model, rows, name)}


def _in_the_models_codes(run: Run, dataset: Dataset, rows: Tensor) -> Dataset:
    """The data with classes and tags by the numbers that the model has for them. DataError where a target is missing, where
    none of the rows has the first, or where one has what the model does not know."""
    if not len(rows):
        raise DataError("no labelled rows to measure on", expected="rows whose target is known")
    tensors = dict(dataset.tensors)
    for key, target in run.targets.items():
        if key not in tensors:
            raise DataError(f"the data have no column {target.column!r}", expected="the run's targets")
        found = dataset.targets[key]
        if found.task != target.task:
            raise DataError(f"the target of these data asks for {found.task}", expected=target.task)
        if found.classes != target.classes:
            tensors[key] = _recoded(tensors[key], found, target, rows)
    return replace(dataset, tensors=tensors, targets=dict(run.targets))


def _recoded(values: Tensor, found: Target, target: Target, rows: Tensor) -> Tensor:
    """Codes [N], or tags [N, K], of one target as those of another; of classes it does not have there are none."""
    held = values[rows]
    of_tags = target.task == "multilabel"
    seen = (held == 1).any(0).nonzero()[:, 0] if of_tags else held[held != UNLABELLED].unique()
    if unknown := sorted({found.classes[c] for c in seen.tolist()} - set(target.classes)):
        raise DataError(
            f"the model knows no {'tag' if of_tags else 'class'} {', '.join(unknown[:10])}",
            expected=f"labels among {', '.join(target.classes)}",
        )
    places = [target.classes.index(c) if c in target.classes else UNLABELLED for c in found.classes]
    if not of_tags:
        return torch.tensor([*places, UNLABELLED])[values]  # the last is that of no label, -1
    tags = values.new_zeros(len(values), len(target.classes))
    for i, place in enumerate(places):
        if place != UNLABELLED:
            tags[:, place] = values[:, i]
    tags[values.isnan().all(1)] = torch.nan
    return tags


def _usable(dataset: Dataset, labelled: bool) -> Tensor:
    rows = torch.cat(list(dataset.splits.values()))
    if not labelled:
        return rows.sort().values
    if not dataset.targets:
        raise DataError(f"no labels in {dataset.source}", expected="class folders, or a label column")
    return rows[dataset.known(rows)].sort().values
