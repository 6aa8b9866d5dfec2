"""A first recipe for somebody's data: commented, fitted to what was found in them, and meant to be edited. A file for each
kind of data, on top of what all have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jichu.core.errors import UsageError
from jichu.data.config import DataConfig
from jichu.data.dataset import Dataset

from .images import ImagesDraft
from .series import SeriesDraft
from .sounds import SoundsDraft
from .tables import TableDraft
from .texts import TextsDraft

KINDS = {
    "image": ImagesDraft,
    "audio": SoundsDraft,
    "series": SeriesDraft,
    "table": TableDraft,
    "text": TextsDraft,
}


def draft(dataset: Dataset, found: dict[str, Any], config: DataConfig) -> str:
    """The text of a recipe for data, from what `data.inspection.inspect` found in them.

    Images and sounds with labels are fitted, those of which most have none are pretrained on first, those without
    any only so; tables get a linear model, boosted trees and two networks. UsageError where it is not
    clear what is to be predicted.
    """
    return "\n".join(KINDS[dataset.kind](dataset, found, config).lines()) + "\n"


def refuse_existing(path: Path, force: bool = False) -> None:
    """UsageError where a file is there already, unless it is to be replaced."""
    if path.exists() and not force:
        raise UsageError(
            f"{path} is there already", where="-o", expected="another file, or --force to replace it"
        )
