"""The columns of a source with their types."""

from __future__ import annotations

from jichu.core.errors import unknown

from .config import ColumnConfig, DataConfig
from .schema import TableSchema, wanted_texts
from .source import Column, Source
from .types import typed


def columns_of(source: Source, config: DataConfig, table: TableSchema | None = None) -> dict[str, Column]:
    """The columns with their types found, or as the recipe or a model's inputs say. UsageError where the
    recipe names one that is not there; a model says itself which it misses."""
    for name in config.columns:
        if name not in source.columns and table is None:
            raise unknown("column", name, source.columns, where="data.columns")
    wanted = dict(config.columns)
    for name in wanted_texts(config):
        if name in source.columns and source.columns[name].kind == "cells":
            wanted[name] = wanted.get(name, ColumnConfig()).model_copy(update={"type": "text"})
    for name, kind in (table.kinds if table else {}).items():
        wanted[name] = wanted.get(name, ColumnConfig()).model_copy(update={"type": kind})
    return {n: typed(n, c, wanted.get(n, ColumnConfig())) for n, c in source.columns.items()}
