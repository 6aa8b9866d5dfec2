"""A data set: typed columns as tensors, named splits, what is to be predicted, and all that was not used."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from jichu.core.errors import DataError, UsageError, nearest, unknown
from jichu.core.files import fingerprint, replacing
from jichu.core.progress import say

from .cleaning import Dropped, clean, contaminated
from .config import IN_MEMORY, ColumnConfig, DataConfig, SplitConfig
from .decode import Header, Preprocess
from .duplicates import equal_rows
from .profile import describe
from .ragged import Ragged
from .readers import read
from .schema import LABEL, Schema, TableSchema, target_key, target_values, understand, wanted_texts
from .source import SPLITS, UNLABELLED, Column, Names, Source, distinct, unusable
from .splits import draw_labels, joined, latest, stratified
from .store import EQUAL, Store, build, headers, infer, key_of, listing, opened, recall, remember
from .target import Target
from .texts import TEXT, TEXT_2, to_read
from .types import typed

_SPLIT, _GROUP, _TIME = "(split)", "(group)", "(time)"  # stored beside the tensors, for splitting only
_SPLITS = ["", "train", "validation", "test"]  # the codes of the first of them
_LEAKS = "(leaks)"
_DECIDES = {
    "reader",
    "target",
    "columns",
    "text",
    "weight",
    "size",
    "channels",
    "resize",
}  # how data are decoded
_SCHEMA = TypeAdapter(Schema)
_BINS = 10  # of a number to predict, for splits in which its values are spread alike


@dataclass
class Dataset:
    """`tensors[name]` is [N, ...]; `splits[name]` holds row numbers; `names[row]` says where a row
    came from; `targets` are what is to be predicted, by tensor."""

    tensors: dict[str, Tensor]
    names: Names
    splits: dict[str, Tensor]
    targets: dict[str, Target] = field(default_factory=dict)
    table: TableSchema = TableSchema()  # noqa: RUF009 (frozen)
    preprocess: Preprocess | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)  # what each column holds
    headers: dict[int, Header] = field(default_factory=dict)  # of some images, by row
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    duplicates: dict[str, int] = field(default_factory=dict)
    equal: np.ndarray | None = None  # groups [N] of equal images or rows
    fingerprint: str = ""  # of what was read
    source: str = ""
    splits_given: bool = False  # whether the source came with splits
    files: pa.Table | None = None  # that were read: `file`, `bytes`, `digest`
    texts: dict[str, Ragged] = field(default_factory=dict)  # UTF-8: `text`, `text_2` of a pair, targets
    chat: bool = False  # whether the texts are conversations, messages in JSON
    encodings: dict[str, str] = field(default_factory=dict)  # of the files that were not in UTF-8
    cleaned: dict[str, int] = field(default_factory=dict)  # records left out by each rule of data.clean
    store: Path | None = None  # where what is made of the columns can be kept

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[str]:
        """The names of the first target's classes."""
        return list(self.targets[LABEL].classes) if LABEL in self.targets else []

    @property
    def kind(self) -> str:
        """What a network is to look at: `image`, `text` or `table`."""
        return "image" if "image" in self.tensors else "text" if TEXT in self.texts else "table"

    def known(self, rows: Tensor, key: str = LABEL) -> Tensor:
        """Whether each row [n] has a value of the target, bool."""
        if key in self.texts:
            return self.texts[key].lengths[rows] > 0
        if key not in self.tensors:
            return torch.zeros(len(rows), dtype=torch.bool)
        values = self.tensors[key][rows]
        if values.dtype.is_floating_point:
            return ~(values.isnan().flatten(1).all(1) if values.ndim > 1 else values.isnan())
        return values != UNLABELLED

    def labels(self, split: str) -> np.ndarray:
        """The first target's codes [n] of a split's rows; -1 where there is no label."""
        rows = self.splits[split]
        if LABEL not in self.tensors or self.targets[LABEL].task != "classification":
            return np.full(len(rows), UNLABELLED)
        return self.tensors[LABEL][rows].numpy()

    def labelled(self, split: str) -> Tensor:
        """The rows of a split that have a value of one target at least."""
        rows = self.splits[split]
        known = [self.known(rows, key) for key in self.targets]
        return rows[torch.stack(known).any(0)] if known else rows[:0]

    def draw(self, per_class: int | None, *, seed: int, draw: int) -> Tensor:
        """Labelled training rows: all, or `per_class` of each class."""
        if not self.targets:
            names = [c["name"] for c in self.columns if c["type"] in ("number", "category", "tags")]
            what = f"no labelled records to learn from in {self.source}"
            if not names:
                raise DataError(what, expected="class folders, or a label column")
            choices = f"the column to predict, one of {', '.join(names)}"
            raise UsageError(what, where="data.target", expected=choices)
        rows = self.labelled("train")
        if not len(rows):
            raise DataError(
                f"no labelled records to learn from in {self.source}",
                expected="class folders, or a label column",
            )
        if per_class is None:
            return rows
        if self.targets[LABEL].task != "classification":
            raise UsageError(
                f"{self.targets[LABEL].column} has no classes to draw labels of",
                where="data.labels_per_class", expected="no such key",
            )  # fmt: skip
        chosen = draw_labels(self.tensors[LABEL].numpy(), rows.numpy(), per_class, seed=seed, draw=draw)
        return torch.from_numpy(chosen)

    def about_targets(self, rows: Tensor) -> dict[str, Target]:
        """The targets with what these (training) rows say of them: counts, or mean and deviation."""
        found = {}
        for key, target in self.targets.items():
            mine = rows[self.known(rows, key)]
            if target.task == "text":
                found[key] = replace(target, rows=len(mine))
                continue
            values = self.tensors[key][mine]
            if target.task == "regression":
                std = float(values.double().std(correction=0)) if len(mine) else 0.0
                mean = float(values.double().mean()) if len(mine) else 0.0
                found[key] = replace(target, rows=len(mine), mean=mean, std=std or 1.0)
            elif target.task == "multilabel":
                counts = values.nan_to_num().sum(0).long().tolist()
                found[key] = replace(target, rows=len(mine), counts=tuple(counts))
            else:
                counts = torch.bincount(values, minlength=len(target.classes)).tolist()
                found[key] = replace(target, rows=len(mine), counts=tuple(counts))
        return found

    def summary(self) -> dict[str, Any]:
        """Counts, sizes, classes and faults, ready for JSON."""
        splits = {}
        for name, rows in self.splits.items():
            about = self.about_targets(rows).get(LABEL)
            known = int(self.known(rows).sum())
            counts = dict(zip(about.classes, about.counts, strict=True)) if about and about.counts else {}
            splits[name] = {"rows": len(rows), "unlabelled": len(rows) - known, "classes": counts}
            if about and about.task == "regression" and known:
                splits[name] |= {"mean": about.mean, "std": about.std}
        return {
            "source": self.source,
            "rows": len(self),
            "columns": self.columns,
            "tensors": {name: [list(t.shape[1:]), str(t.dtype).removeprefix("torch.")] for name, t in self.tensors.items()},
            "texts": {name: len(t.values) for name, t in self.texts.items()},
            "chat": self.chat,
            "encodings": self.encodings,
            "cleaned": self.cleaned,
            "targets": {key: {"column": t.column, "task": t.task} for key, t in self.targets.items()},
            "preprocess": self.preprocess and self.preprocess._asdict(),
            "classes": self.classes,
            "splits": splits,
            "duplicates": self.duplicates,
            "quarantined": len(self.quarantine),
            "quarantine": self.quarantine[:20],
            "fingerprint": self.fingerprint,
        }  # fmt: skip


def load(
    data: Any, config: DataConfig | None = None, *, seed: int = 0, table: TableSchema | None = None
) -> Dataset:
    """Read, find the types, decode (once), clean and split. With `table` its inputs are those, in that
    order and with those codes.

    Exact duplicates stay in one split; where the source comes with splits, a training or validation image
    whose pixels are also in one held out from it is quarantined (equal rows of a table are only counted:
    two people may be alike). Files that were read before and are as they were are not read again.
    """
    config = config or DataConfig(path=data if isinstance(data, str) else IN_MEMORY)
    store = _stored(data, config, table)
    schema = _SCHEMA.validate_python(store.about["schema"])
    targets = {target_key(i): t for i, t in enumerate(schema.targets)}
    hidden = {
        name: store.tensors.pop(name).numpy()
        for name in (_SPLIT, _GROUP, _TIME, EQUAL)
        if name in store.tensors
    }
    texts = to_read(store.texts, schema.chat)
    dropped = _cleaned(store, texts, hidden, config)
    splits, leaks, duplicates = _kept_splits(store, targets, hidden, config, seed, dropped.rows)
    if config.clean.contamination:
        dropped += contaminated(texts, splits, store.names, config.clean.contamination)
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
        _SPLIT in hidden,
        store.files,
        store.texts,
        schema.chat,
        store.about["encodings"],
        dropped.counts,
        store.folder,
    )
    _warn(dataset, config)
    return dataset


def _stored(data: Any, config: DataConfig, table: TableSchema | None) -> Store:
    """The decoded columns: those of an earlier start where the files are as they were, or what is read."""
    how = fingerprint(config.model_dump(include=_DECIDES), config.split.group, config.split.time, table)
    place = _place(data)
    found = recall(place, how) if place else None
    if found is not None:
        return found
    began = time.time_ns()
    source = read(data, config.reader)
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
    if config.text is None and source.texts:
        targets = [config.target] if isinstance(config.target, str) else config.target or []
        config = config.model_copy(update={"text": [n for n in source.texts if n not in targets]})
    schema = understand(columns, config)
    if table is not None:
        schema = replace(schema, table=table)
    images, preprocess, arrays, found = _encoded(source, columns, schema, config)
    about = {"columns": describe(columns, schema), "schema": schema.plain(), "encodings": source.encodings}
    texts = dict(zip((TEXT, TEXT_2), ((n, columns[n]) for n in schema.texts), strict=False))
    texts |= {
        target_key(i): (t.column, columns[t.column]) for i, t in enumerate(schema.targets) if t.task == "text"
    }
    return build(key, contents, files, source, images, preprocess, arrays, found, about, texts)


def _place(data: Any) -> str | None:
    """The path of what is to be read, if it is one."""
    if not isinstance(data, (str, Path)):
        return None
    path = os.path.abspath(os.path.expanduser(data))
    return path if os.path.exists(path) else None


def columns_of(source: Source, config: DataConfig, table: TableSchema | None = None) -> dict[str, Column]:
    """The columns with their types found, or as the recipe or a model's inputs say. UsageError where the
    recipe names one that is not there."""
    for name in config.columns:
        if name not in source.columns:
            raise unknown("column", name, source.columns, where="data.columns")
    wanted = dict(config.columns)
    for name in wanted_texts(config):
        if name in source.columns and source.columns[name].kind == "cells":
            wanted[name] = wanted.get(name, ColumnConfig()).model_copy(update={"type": "text"})
    for name, kind in (table.kinds if table else {}).items():
        wanted[name] = wanted.get(name, ColumnConfig()).model_copy(update={"type": kind})
    return {n: typed(n, c, wanted.get(n, ColumnConfig())) for n, c in source.columns.items()}


def _take_splits(source: Source, columns: dict[str, Column], schema: Schema) -> None:
    """A column that tells the split of each row does so where the files do not."""
    if schema.split is not None and source.splits is None:
        column = columns[schema.split]
        names = [SPLITS[c.lower()] for c in column.classes] + [""]
        source.splits = [names[code] for code in column.values]


def _encoded(
    source: Source, columns: dict[str, Column], schema: Schema, config: DataConfig
) -> tuple[Sequence[Any] | None, Preprocess | None, dict[str, np.ndarray], dict[int, Header]]:
    """The images of a source and how they are decoded, its other columns but texts as arrays, and headers of
    some images."""
    _take_splits(source, columns, schema)
    arrays = schema.table.encode(columns)
    for i, target in enumerate(schema.targets):
        if target.task != "text":
            arrays[target_key(i)] = target_values(target, columns[target.column])
    if schema.weight:
        arrays["weight"] = _weights(columns[schema.weight].values, source)
    images = columns[schema.image].values if schema.image else None
    if not arrays and images is None and not schema.texts:
        raise DataError(
            "no column can be used",
            where=source.names[0], expected="an image, a number, a category or a date; found "
            + ", ".join(f"{name}: {why}" for name, why in schema.unused.items()),
        )  # fmt: skip
    if images is None and not schema.texts:
        arrays[EQUAL] = equal_rows(arrays)
    if source.splits is not None:
        arrays[_SPLIT] = np.fromiter(map(_SPLITS.index, source.splits), np.int8, len(source.names))
    if schema.group:
        arrays[_GROUP] = _group_codes(columns[schema.group])
    if schema.time:
        column = columns[schema.time]
        times = column.values.astype(np.float64)
        arrays[_TIME] = (
            np.where(np.isnat(column.values), np.nan, times) if column.kind == "timestamp" else times
        )
    found = headers(images) if images is not None else {}
    preprocess = None
    if images is not None:
        preprocess = infer(found.values(), config.size, config.channels, config.resize, source.names[0])
    return images, preprocess, arrays, found


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


def _strata(labels: Tensor | None, target: Target | None, rows: int) -> np.ndarray:
    """Classes [N] to be spread alike over the splits, -1 where a row can only be trained on."""
    if labels is None or target is None:
        return np.zeros(rows, np.int64)
    if target.task == "classification":
        return labels.numpy()
    values = labels.numpy() if labels.ndim == 1 else labels.numpy().sum(1)
    known = ~np.isnan(values)
    edges: Any = (
        np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1])) if known.any() else []
    )
    return np.where(known, np.searchsorted(edges, values), UNLABELLED)


def _cleaned(
    store: Store, texts: dict[str, Ragged], hidden: dict[str, np.ndarray], config: DataConfig
) -> Dropped:
    """The rows that `data.clean` leaves out."""
    if not config.clean.changed:
        return Dropped()
    if not texts:
        raise UsageError("there are no texts to be cleaned", where="data.clean", expected="no such key")
    given = hidden.get(_SPLIT, np.zeros(len(store.names), np.int8))
    return clean(texts, config.clean, store.names, hidden[EQUAL], given > 1, store.folder)


def _kept_splits(
    store: Store, targets: dict[str, Target], hidden: dict[str, np.ndarray], how: DataConfig, seed: int,
    dropped: np.ndarray,
) -> tuple[dict[str, Tensor], Tensor, dict[str, int]]:  # fmt: skip
    """Rows of each split, rows that are not used because a split held out from theirs has them too, and how
    many duplicates there are; kept beside the columns for the next start. The `dropped` rows are in none."""
    config = how.split
    path = (
        store.folder
        / f"split-{fingerprint(config, seed, *([how.clean] if len(dropped) else []))}.safetensors"
    )
    with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError), safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        kept = {name: file.get_tensor(name) for name in [*about["splits"], _LEAKS]}
        leaks = kept.pop(_LEAKS)
        return kept, leaks, about["duplicates"]
    labels, target = store.tensors.get(LABEL), targets.get(LABEL)
    rows = len(store.names)
    equal = hidden[EQUAL]
    groups = equal if "image" in store.tensors or TEXT in store.texts else np.arange(rows)
    free = np.ones(rows, bool)
    free[dropped] = False
    made, left_out = _split(free, _strata(labels, target, rows), groups, hidden, config, seed)
    duplicates = {
        "exact": len(equal) - distinct(equal),
        "removed": len(left_out),
        "conflicting_labels": 0,
    }
    if labels is not None and target is not None and target.task == "classification":
        duplicates["conflicting_labels"] = _conflicts(labels.numpy(), equal)
    splits, leaks = {name: torch.from_numpy(r) for name, r in made.items()}, torch.from_numpy(left_out)
    with contextlib.suppress(OSError), replacing(path) as temporary:
        about = json.dumps({"splits": [*splits], "duplicates": duplicates})
        # not by `save_file`, which makes a file of its own beside it, and leaves that where it is killed
        temporary.write_bytes(save({**splits, _LEAKS: leaks}, {"about": about}))
    return splits, leaks, duplicates


def _split(
    free: np.ndarray, strata: np.ndarray, groups: np.ndarray, hidden: dict[str, np.ndarray], config: SplitConfig,
    seed: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """Rows of each split, out of those that are `free`, and rows that are not used because a split held out
    from theirs has them too."""
    shares = {"validation": config.validation, "test": config.test}
    given = hidden.get(_SPLIT, np.zeros(len(free), np.int8))
    found = {name: np.flatnonzero(free & (given == _SPLITS.index(name))) for name in shares}
    pool = np.flatnonzero(free & ~np.isin(given, [_SPLITS.index(name) for name in shares]))
    shares = {name: share for name, share in shares.items() if share and not len(found[name])}
    if _TIME in hidden and shares:
        made = latest(hidden[_TIME][pool], shares)
    else:
        together = joined(groups, hidden[_GROUP]) if _GROUP in hidden else groups
        made = stratified(strata[pool], shares, seed=seed, groups=together[pool])
    splits = {name: pool[rows] for name, rows in made.items()}
    splits |= {name: rows for name, rows in found.items() if len(rows)}
    leaks = [np.empty(0, np.int64)]
    for name, against in (("validation", ["test"]), ("train", ["validation", "test"])):
        held_out = np.concatenate([leaks[0], *(splits[other] for other in against if other in splits)])
        leak = np.isin(groups[splits.get(name, leaks[0])], groups[held_out])
        if leak.any():
            leaks.append(splits[name][leak])
            splits[name] = splits[name][~leak]
    splits = {name: rows for name, rows in splits.items() if len(rows) or name == "train"}
    return dict(sorted(splits.items(), key=lambda item: item[0] != "train")), np.concatenate(leaks)


def _conflicts(codes: np.ndarray, groups: np.ndarray) -> int:
    """How many sets of equal records carry more than one label."""
    known = codes != UNLABELLED
    groups, codes = groups[known], codes[known]
    one = np.zeros(groups.max(initial=0) + 1, codes.dtype)  # label of each set
    one[groups] = codes
    return distinct(groups[codes != one[groups]])


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
