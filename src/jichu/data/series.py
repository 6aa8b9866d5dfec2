"""Series in time: rows put in order, steps made even, and looked at through windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from jichu.core.errors import DataError, UsageError, unknown
from jichu.core.progress import say

from .config import DataConfig, SeriesConfig
from .dataset import Dataset
from .kept_splits import GROUP
from .schema import LABEL, Schema, TableSchema
from .source import Column, Names, Source, unusable
from .target import Target
from .windows import SERIES, SeriesInputs, Windows

_LEAST = 2  # steps of a series that has any time from one to the next
_MOST_ADDED = 0.2  # missing steps for each that is there, from which times count as uneven


# --- rows in order


def evened(
    source: Source, columns: dict[str, Column], config: DataConfig
) -> tuple[Source, dict[str, Column]]:
    """The rows in the order of their series and times, one for each step: of rows with the same time the first is
    kept, the others are in the quarantine, and steps without a row are rows of missing values. DataError where times
    are missing."""
    assert config.series is not None
    how = config.series
    for key, name in (("time", how.time), ("by", how.by)):
        if name is not None and name not in columns:
            raise unknown("column", name, columns, where=f"data.series.{key}")
    time = _time_column(columns, how)
    stamps = _times(time, columns, len(source.names))
    groups, named = _groups(columns[how.by]) if how.by else (np.zeros(len(stamps), np.int64), ("",))
    quarantine = list(source.quarantine)
    order = np.lexsort((stamps, groups))
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (np.diff(stamps[order]) == 0) & (np.diff(groups[order]) == 0)
    for place in np.flatnonzero(repeated):
        first = source.names[int(order[place - 1])]
        quarantine.append(unusable(source.names[int(order[place])], f"the same time as {first}"))
    order = order[~repeated]
    rows, times = [], []
    for group in range(len(named)):
        mine = order[groups[order] == group]
        places, filled = _grid(stamps[mine], how, time is not None)
        rows.append(np.where(places < 0, -1, mine[places]))
        times.append(filled)
    taken, at = np.concatenate(rows), np.concatenate(times)
    if missing := int((taken < 0).sum()):
        say(f"{missing:,} steps without a row are taken as missing values")
    kept = {name: _taken(column, taken) for name, column in columns.items() if name not in (time, how.by)}
    counts = [len(part) for part in rows]
    names = _names(at, time is not None, np.repeat(named, counts))
    if time is not None:
        kept[time] = Column("timestamp" if at.dtype.kind == "M" else "number", at)
    if how.by:
        kept[how.by] = Column("category", np.repeat(np.arange(len(named)), counts), named)
    if source.splits is not None:
        say("the splits of the source are not used: series are split by time, as data.split says")
    return replace(source, columns=kept, names=names, splits=None, quarantine=quarantine), kept


def _time_column(columns: Mapping[str, Column], how: SeriesConfig) -> str | None:
    """The one that is given, or the first of dates; None where the order of the rows is all that is known."""
    return how.time or next((n for n, c in columns.items() if c.kind == "timestamp"), None)


def _times(name: str | None, columns: dict[str, Column], rows: int) -> np.ndarray:
    """When each row was, datetime64[s] or a number [N]; its place where no column says it."""
    if name is None:
        return np.arange(rows, dtype=np.float64)
    column = columns[name]
    if column.kind not in ("timestamp", "number"):
        raise DataError(
            f"the column {name!r} is of kind {column.kind}",
            where="data.series.time",
            expected="dates or numbers",
        )
    missing = np.isnat(column.values) if column.kind == "timestamp" else np.isnan(column.values)
    if missing.any():
        raise DataError(
            f"{int(missing.sum()):,} rows have no {name}, the first of them row {int(missing.argmax())}",
            where="data.series.time", expected="a time in every row",
        )  # fmt: skip
    return column.values


def _groups(column: Column) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which series each row is of, and what they are called."""
    if column.kind == "category":
        if (column.values < 0).any():
            raise DataError("rows of no series", where="data.series.by", expected="a value in every row")
        return column.values, column.classes
    cells = (
        column.values if isinstance(column.values, (pa.Array, pa.ChunkedArray)) else pa.array(column.values)
    )
    text = np.array([str(value) for value in cells.to_pylist()])
    named, codes = np.unique(text, return_inverse=True)
    return codes, tuple(named.tolist())


def _grid(stamps: np.ndarray, how: SeriesConfig, timed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The row of each step, -1 where there is none, and when it is, from times that rise."""
    rows = np.arange(len(stamps))
    if not timed or how.every == "rows" or len(stamps) <= _LEAST:
        return rows, stamps
    gaps = np.diff(stamps)
    kinds, counts = np.unique(gaps, return_counts=True)
    step = kinds[counts.argmax()]
    places = np.round((stamps - stamps[0]) / step).astype(np.int64)
    steps = int(places[-1]) + 1
    off = np.abs((stamps - stamps[0]) / step - places) > 1e-3
    if steps - len(stamps) > _MOST_ADDED * len(stamps) or off.any() or (np.diff(places) == 0).any():
        say(f"the times are uneven (most often {step} apart): each row is taken as one step")
        return rows, stamps
    found = np.full(steps, -1, np.int64)
    found[places] = rows
    return found, stamps[0] + np.arange(steps) * step


def _taken(column: Column, rows: np.ndarray) -> Column:
    """The column's values at some rows, missing where the row is -1."""
    values = column.values
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return Column(
            "ignored", values.take(pa.array(rows, mask=rows < 0)), note="of a kind that is not forecast"
        )
    missing: Any = {"number": np.nan, "timestamp": np.datetime64("NaT"), "category": -1}.get(column.kind)
    if missing is None or getattr(values, "ndim", 0) != 1:
        nothing = pa.nulls(len(rows))
        return Column("ignored", nothing, note="of a kind that is not forecast")
    taken = values[np.maximum(rows, 0)]
    taken[rows < 0] = missing
    return Column(column.kind, taken, column.classes, column.note)


def _names(times: np.ndarray, timed: bool, series: np.ndarray) -> Names:
    if times.dtype.kind == "M":
        told = np.char.replace(np.datetime_as_string(times, unit="s"), "T", " ")
    else:
        told = np.array([f"{t:g}" if timed else f"step {int(t)}" for t in times])
    joined = pc.binary_join_element_wise(pa.array(series), pa.array(told), " ")
    return Names(pc.utf8_ltrim_whitespace(joined).cast(pa.large_string()))


def understand_series(columns: Mapping[str, Column], config: DataConfig) -> Schema:
    """Which columns are looked at, and which of them forecast. UsageError where one is named that cannot be."""
    assert config.series is not None
    how = config.series
    time = _time_column(columns, how)
    numbers = [n for n, c in columns.items() if c.kind == "number" and n not in (time, how.by)]
    wanted = [config.target] if isinstance(config.target, str) else config.target or numbers
    for name in wanted:
        if name not in columns:
            raise unknown("column", name, columns, where="data.target")
        if name not in numbers:
            raise UsageError(
                f"the column {name!r} is of kind {columns[name].kind}", where="data.target",
                expected=f"one of {', '.join(numbers)}" if numbers else "a column of numbers",
            )  # fmt: skip
    if not numbers:
        raise DataError("no column of numbers to forecast", where=config.path)
    unused = {n: "only numbers are looked at in series" for n in columns if n not in (*numbers, time, how.by)}
    target = Target(", ".join(wanted), "forecast", series=tuple(wanted), steps=how.horizon)
    return Schema(
        TableSchema(numbers=tuple(numbers)), None, (target,), group=how.by, time=time, unused=unused
    )


def latest_windows(
    source: Source, columns: dict[str, Column], config: DataConfig, inputs: SeriesInputs
) -> tuple[list[str], torch.Tensor]:
    """The last window of each series in data, [S, steps, columns], missing before its first step; and after which step
    each ends. DataError where a column that the model looks at is not there."""
    source, columns = evened(source, columns, config)
    for name in inputs.columns:
        if name not in columns:
            raise DataError(
                f"the column {name!r} is missing", expected=f"the columns {', '.join(inputs.columns)}"
            )
    values = torch.from_numpy(np.stack([columns[name].values for name in inputs.columns], 1)).float()
    by = config.series.by if config.series else None
    groups = columns[by].values if by else np.zeros(len(values), np.int64)
    ends = np.flatnonzero(np.r_[np.diff(groups) != 0, True]) + 1
    begins = np.r_[0, ends[:-1]]
    found = torch.full((len(ends), inputs.steps, len(inputs.columns)), torch.nan)
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        part = values[max(begin, end - inputs.steps) : end]
        found[i, inputs.steps - len(part) :] = part
    return [source.names[end - 1] for end in ends.tolist()], found


# --- windows


def windowed(dataset: Dataset, hidden: dict[str, np.ndarray], config: DataConfig) -> Dataset:
    """A data set of windows instead of steps: `context` of them and the `horizon` that follows, each split having
    those whose whole horizon lies in its share of the time of its series. DataError where there are none."""
    assert config.series is not None
    how = config.series
    values = dataset.tensors["numbers"]
    columns = dataset.table.numbers
    (target,) = dataset.targets.values()
    places = [columns.index(name) for name in target.series]
    groups = hidden.get(GROUP, np.zeros(len(values), np.int64))
    begins = np.flatnonzero(np.r_[True, np.diff(groups) != 0])
    ends = np.r_[begins[1:], len(values)]
    shares = {"train": 1 - config.split.test - config.split.validation, "validation": config.split.validation,
              "test": config.split.test}  # fmt: skip
    origins: dict[str, list[np.ndarray]] = {name: [] for name, share in shares.items() if share > 0}
    for begin, end in zip(begins, ends, strict=True):
        before = begin
        for name, parts in origins.items():
            share = sum(shares[n] for n in list(origins)[: list(origins).index(name) + 1])
            until = end if name == list(origins)[-1] else begin + round(share * (end - begin))
            first = max(before, begin + how.context)
            parts.append(np.arange(first, max(first, until - how.horizon + 1)))
            before = until
    found = {name: np.concatenate(parts) for name, parts in origins.items()}
    for name, mine in found.items():
        if not len(mine):
            raise DataError(
                f"no window of {how.context} + {how.horizon} steps fits the {name} rows of series of"
                f" {int((ends - begins).max()):,} steps at most",
                where="data.series", expected="a shorter context or horizon, or a larger share of data.split",
            )  # fmt: skip
    starts = torch.from_numpy(np.concatenate(list(found.values())))
    bounds = np.cumsum([0, *(len(mine) for mine in found.values())])
    splits = {name: torch.arange(a, b) for name, a, b in zip(found, bounds[:-1], bounds[1:], strict=True)}
    looked_at: dict[str, Any] = {
        SERIES: Windows(values, starts - how.context, how.context),
        LABEL: Windows(values[:, places].contiguous(), starts, how.horizon),
    }
    return replace(
        dataset, tensors=looked_at, names=dataset.names.take(starts.numpy()), splits=splits, equal=None,
        series=SeriesInputs(columns, how.context, tuple(places)), table=TableSchema(), splits_given=False,
    )  # fmt: skip
