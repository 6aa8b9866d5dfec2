"""Data are read, their types found, decoded (once), cleaned and split."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import TypeAdapter

from jichu.core.errors import DataError, UsageError, nearest
from jichu.core.files import fingerprint
from jichu.core.progress import say

from . import aside as aside_columns
from .canaries import plant
from .cleaning import Dropped, clean, contaminated
from .columns import columns_of
from .config import IN_MEMORY, DataConfig
from .dataset import Dataset
from .duplicates import equal_rows
from .kept_splits import GIVEN, GROUP, SPLIT_NAMES, TIME, kept_splits
from .media import AnyHeader, How, headers, infer
from .profile import describe
from .ragged import Ragged
from .readers import read
from .schema import LABEL, WEIGHT, Schema, TableSchema, target_key, target_values, understand
from .series import evened, understand_series, windowed
from .source import SPLITS, UNLABELLED, Column, Source, unusable
from .store import EQUAL, Store, build, key_of, listing, opened, recall, remember
from .texts import TEXT, TEXT_2, to_read

_DECIDES = {
    "reader",
    "target",
    "columns",
    "text",
    "weight",
    "size",
    "channels",
    "resize",
    "rate",
    "series",
    "seconds",
    "aside",
}  # how data are decoded
_SCHEMA = TypeAdapter(Schema)


def load(
    data: Any,
    config: DataConfig | None = None,
    *,
    seed: int = 0,
    table: TableSchema | None = None,
    texts: tuple[str, ...] = (),
) -> Dataset:
    """Read, find the types, decode (once), clean and split. With `table` its inputs are those, in that
    order and with those codes; with `texts` those columns are read where they are there and no others are named.

    Exact duplicates stay in one split; where the source comes with splits, a training or validation image
    whose pixels are also in one held out from it is quarantined (equal rows of a table are only counted:
    two people may be alike). Files that were read before and are as they were are not read again.
    """
    config = config or DataConfig(path=data if isinstance(data, str) else IN_MEMORY)
    store = _stored(data, config, table, texts)
    schema = _SCHEMA.validate_python(store.about["schema"])
    targets = {target_key(i): t for i, t in enumerate(schema.targets)}
    hidden = {
        name: store.tensors.pop(name).numpy() for name in (GIVEN, GROUP, TIME, EQUAL) if name in store.tensors
    }
    contents = to_read(store.texts, schema.chat)
    aside = {
        kept.name: aside_columns.decode(store.tensors.pop(key), kept)
        for key, kept in aside_columns.keyed(schema.aside)
    }
    dropped = _cleaned(store, contents, hidden, config)
    if config.series is None:
        splits, leaks, duplicates = kept_splits(store, targets, hidden, config, seed, dropped.rows)
    else:  # split by time, once there are windows
        splits, leaks = {"train": torch.arange(len(store.names))}, torch.empty(0, dtype=torch.int64)
        duplicates = dict.fromkeys(("exact", "removed", "conflicting_labels"), 0)
    if config.clean.contamination:
        dropped += contaminated(contents, splits, store.names, config.clean.contamination)
        splits["train"] = splits["train"][~torch.isin(splits["train"], torch.from_numpy(dropped.rows))]
    faults = [unusable(store.names[row], "exact duplicate of a held-out record") for row in leaks.tolist()]
    faults += [
        unusable(store.names[r], why) for r, why in zip(dropped.rows.tolist(), dropped.reasons, strict=True)
    ]
    dataset = Dataset(
        store.tensors,
        store.names,
        splits,
        targets,
        schema.table,
        store.preprocess,
        store.about["columns"],
        store.headers,
        store.quarantine + faults,
        duplicates,
        hidden.get(EQUAL),
        store.contents,
        config.path,
        GIVEN in hidden,
        store.files,
        store.texts,
        schema.chat,
        store.about["encodings"],
        dropped.counts,
        store.folder,
        schema.texts,
        aside=aside,
    )
    if config.series is not None:
        dataset = windowed(dataset, hidden, config)
    if config.canaries is not None:
        dataset = plant(dataset, config.canaries, seed)
        say(f"planted among the training texts: {dataset.canaries}")
    _warn(dataset, config)
    return dataset


def _stored(data: Any, config: DataConfig, table: TableSchema | None, texts: tuple[str, ...]) -> Store:
    """The decoded columns: those of an earlier start where the files are as they were, or what is read."""
    how = fingerprint(
        config.model_dump(include=_DECIDES), config.split.group, config.split.time, table, *texts
    )
    place = _place(data)
    found = recall(place, how) if place else None
    if found is not None:
        return found
    began = time.time_ns()
    source = read(data, config.reader)
    if texts and config.text is None and source.columns.keys() >= set(texts):
        config = config.model_copy(update={"text": list(texts)})
    if place is None or source.files is None:
        files, contents = None, source.fingerprint
    else:
        files = listing(source.files, place)
        contents = fingerprint(files.to_pylist())
    key = key_of(contents, how)
    store = opened(key) or _built(key, contents, files, source, config, table)
    if place is not None and source.files is not None:
        remember(place, how, store, source.files, began)
    return store


def _built(
    key: str,
    contents: str,
    files: pa.Table | None,
    source: Source,
    config: DataConfig,
    table: TableSchema | None,
) -> Store:
    columns = columns_of(source, config, table)
    if table is not None:  # a model asks for its inputs alone
        config = config.model_copy(update={"aside": [name for name in config.aside if name in columns]})
    if config.series is not None:
        source, columns = evened(source, columns, config)
    if config.text is None and source.texts:
        targets = [config.target] if isinstance(config.target, str) else config.target or []
        config = config.model_copy(update={"text": [n for n in source.texts if n not in targets]})
    schema = understand(columns, config) if config.series is None else understand_series(columns, config)
    if table is not None:
        schema = replace(schema, table=table)
    media, preprocess, arrays, found = _encoded(source, columns, schema, config)
    about = {"columns": describe(columns, schema), "schema": schema.plain(), "encodings": source.encodings}
    texts = dict(zip((TEXT, TEXT_2), ((n, columns[n]) for n in schema.texts), strict=False))
    texts |= {
        target_key(i): (t.column, columns[t.column]) for i, t in enumerate(schema.targets) if t.task == "text"
    }
    return build(key, contents, files, source, media, preprocess, arrays, found, about, texts)


def _place(data: Any) -> str | None:
    """The path of what is to be read, if it is one."""
    if not isinstance(data, (str, Path)):
        return None
    path = os.path.abspath(os.path.expanduser(data))
    return path if os.path.exists(path) else None


def _take_splits(source: Source, columns: dict[str, Column], schema: Schema) -> None:
    """A column that tells the split of each row does so where the files do not."""
    if schema.split is not None and source.splits is None:
        column = columns[schema.split]
        names = [SPLITS[c.lower()] for c in column.classes] + [""]
        source.splits = [names[code] for code in column.values]


def _encoded(
    source: Source, columns: dict[str, Column], schema: Schema, config: DataConfig
) -> tuple[Sequence[Any], How | None, dict[str, np.ndarray], dict[int, AnyHeader]]:
    """The images or sounds of a source and how they are decoded, its other columns but texts as arrays, and
    headers of some."""
    _take_splits(source, columns, schema)
    arrays = schema.table.encode(columns)
    for i, target in enumerate(schema.targets):
        if target.task not in ("text", "forecast"):
            arrays[target_key(i)] = target_values(target, columns[target.column])
    if schema.weight:
        arrays[WEIGHT] = _weights(columns[schema.weight].values, source)
    media: Sequence[Any] = columns[schema.media].values if schema.media else ()
    if not arrays and not schema.media and not schema.texts:
        raise DataError(
            "no column can be used",
            where=source.names[0], expected="an image, a sound, a number, a category or a date; found "
            + ", ".join(f"{name}: {why}" for name, why in schema.unused.items()),
        )  # fmt: skip
    if not schema.media and not schema.texts:
        arrays[EQUAL] = equal_rows(arrays)
    arrays |= {
        key: aside_columns.encode(columns[kept.name]) for key, kept in aside_columns.keyed(schema.aside)
    }
    if source.splits is not None:
        arrays[GIVEN] = np.fromiter(map(SPLIT_NAMES.index, source.splits), np.int8, len(source.names))
    if schema.group:
        arrays[GROUP] = _group_codes(columns[schema.group])
    if schema.time:
        column = columns[schema.time]
        times = column.values.astype(np.float64)
        arrays[TIME] = (
            np.where(np.isnat(column.values), np.nan, times) if column.kind == "timestamp" else times
        )
    if not schema.media:
        return media, None, arrays, {}
    kind = columns[schema.media].kind
    found = headers(kind, media)
    return media, infer(kind, found, config, source.names[0]), arrays, found


def _weights(values: np.ndarray, source: Source) -> np.ndarray:
    bad = ~(values >= 0)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"the weight {values[row]}",
            where=source.names[row],
            expected="a number not below zero in every row",
        )
    return values.astype(np.float32)


def _group_codes(column: Column) -> np.ndarray:
    """Codes [N] of equal values; a row without one is a group of its own."""
    codes = column.values
    if column.kind != "category":
        cells = codes if isinstance(codes, (pa.Array, pa.ChunkedArray)) else pa.array(codes, from_pandas=True)
        codes = pc.index_in(cells, pc.unique(cells).drop_null()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(codes < 0, len(codes) + np.arange(len(codes)), codes)


def _cleaned(
    store: Store, texts: dict[str, Ragged], hidden: dict[str, np.ndarray], config: DataConfig
) -> Dropped:
    """The rows that `data.clean` leaves out."""
    if not config.clean.changed:
        return Dropped()
    if not texts:
        raise UsageError("there are no texts to be cleaned", where="data.clean", expected="no such key")
    given = hidden.get(GIVEN, np.zeros(len(store.names), np.int8))
    return clean(texts, config.clean, store.names, hidden[EQUAL], given > 1, store.folder)


def _warn(dataset: Dataset, config: DataConfig) -> None:
    if dataset.quarantine:
        first = dataset.quarantine[0]
        say(
            f"{len(dataset.quarantine)} records are not used, listed in quarantine.jsonl;"
            f" the first: {first['record']}: {first['reason']}"
        )
    trained = dataset.labels("train")
    if not dataset.classes or not (trained != UNLABELLED).any():
        return
    counts = np.bincount(trained[trained != UNLABELLED], minlength=len(dataset.classes))
    absent = [c for c, count in zip(dataset.classes, counts.tolist(), strict=True) if not count]
    if not absent:
        return
    say(f"no labelled training rows for {', '.join(absent[:10])}")
    test = dataset.labels("test") if "test" in dataset.splits else trained
    if not np.isin(test[test != UNLABELLED], trained).any():
        column = dataset.targets[LABEL].column
        known = [c for c, count in zip(dataset.classes, counts.tolist(), strict=True) if count]
        near = nearest(absent[0], known)
        raise DataError(
            f"no label of the test rows ({', '.join(absent[:5])}) is one of the training rows'",
            where=config.path, expected=f"one of {', '.join(known[:10])}; columns: {{{column}: {{rename: {{…}}}}}} can rename",
            nearest=near,
        )  # fmt: skip
