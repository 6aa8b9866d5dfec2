"""The pages of a finished run: the report, the card, and what was found in the data."""

from __future__ import annotations

from typing import Any

from jichu.auditing import card, data_page, parts, report
from jichu.auditing import table as tables
from jichu.core.errors import DataError
from jichu.core.files import read_json, read_jsonl
from jichu.core.folder import RunFolder
from jichu.core.words import speaking
from jichu.data.dataset import Dataset
from jichu.data.inspection import inspect
from jichu.models.folder import read_config

from .build import usual
from .config import ModelStage, PretrainStage, Recipe


def write(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Write the card, and as the last of all the report, from what was measured."""
    audit = read_json(folder.audit) if folder.audit.exists() else None
    look = parts.Look(dataset.pictures if dataset.preprocess else None, dataset.told, dataset.words)
    about: dict[str, Any] = {
        "title": recipe.name, "summary": read_json(folder.summary), "audit": audit, "data": dataset.summary(),
        "sections": parts.shown(audit, dataset.targets, look) if audit else [],
        "environment": folder.notes(), "chosen": recipe.chosen,
    }  # fmt: skip
    card.write(folder.card, recipe=_called(folder, recipe, dataset), kind=dataset.kind, **about)
    report.write(
        folder.report, table=tables.read(folder.predictions) if audit else None, targets=dataset.targets,
        history=read_jsonl(folder.metrics), pictures=look.pictures,
        data_page=folder.data_page.name if folder.data_page.exists() else None, **about,
    )  # fmt: skip


def rewrite(folder: RunFolder, recipe: Recipe, dataset: Dataset, language: str | None) -> None:
    """Write all pages once more, in another language; nothing is measured anew. DataError where the run is not finished, or
    its data are others by now."""
    if not folder.report.exists():
        raise DataError(
            "the run is not finished", where=folder.path, expected="one that --resume brought to its end"
        )
    if not folder.made_of(dataset.fingerprint):
        raise DataError("the data have changed since the run", where=dataset.source, expected="the same data")
    with speaking(language or recipe.language):
        if folder.data_page.exists():
            data_page.write(folder.data_page, dataset, inspect(dataset))
        write(folder, recipe, dataset)


def _called(folder: RunFolder, recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """The recipe with the backbones and objectives that `auto` came to, and what was gone on from."""
    plain = recipe.plain()
    tasks = " and ".join(dict.fromkeys(target.task for target in dataset.targets.values()))
    for told, stage in zip(plain["stages"], recipe.stages, strict=True):
        if not isinstance(stage, ModelStage):
            continue
        told["backbone"] = read_config(folder.stage_model(stage.name)).backbone
        if stage.objective.name == "auto":
            alone = "language" if dataset.kind == "text" else usual(stage.objective, dataset).name
            told["objective"]["name"] = alone if isinstance(stage, PretrainStage) else tasks
    return plain
