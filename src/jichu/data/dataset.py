"""A data set: typed columns as tensors, named splits, what is to be predicted, and all that was not used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jichu.core.errors import DataError, UsageError, unknown

from .media import AnyHeader, How
from .ragged import Ragged
from .schema import LABEL, TableSchema
from .sound import Sound
from .source import UNLABELLED, Column, Names
from .spectrum import pictures
from .splits import draw_labels
from .target import Target
from .texts import TEXT, text_of, to_read
from .windows import SeriesInputs, Windows, statistics

if TYPE_CHECKING:
    from .canaries import Canaries

_CHARACTERS, _BYTES = 200, 1000  # of a row that is shown in words


@dataclass
class Dataset:
    """`tensors[name]` is [N, ...]; `splits[name]` holds row numbers; `names[row]` says where a row
    came from; `targets` are what is to be predicted, by tensor."""

    tensors: dict[str, Tensor]
    names: Names
    splits: dict[str, Tensor]
    targets: dict[str, Target] = field(default_factory=dict)
    table: TableSchema = TableSchema()  # noqa: RUF009 (frozen)
    preprocess: How | None = None
    columns: list[dict[str, Any]] = field(default_factory=list)  # what each column holds
    headers: dict[int, AnyHeader] = field(default_factory=dict)  # of some images or sounds, by row
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    duplicates: dict[str, int] = field(default_factory=dict)
    equal: np.ndarray | None = None  # groups [N] of equal rows
    fingerprint: str = ""  # of what was read
    source: str = ""
    splits_given: bool = False  # whether the source came with splits
    files: pa.Table | None = None  # that were read: `file`, `bytes`, `digest`
    texts: dict[str, Ragged] = field(default_factory=dict)  # UTF-8: `text`, `text_2` of a pair, targets
    chat: bool = False  # whether the texts are conversations, messages in JSON
    encodings: dict[str, str] = field(default_factory=dict)  # of the files that were not in UTF-8
    cleaned: dict[str, int] = field(default_factory=dict)  # records left out by each rule of data.clean
    store: Path | None = None  # where what is made of the columns can be kept
    text_columns: tuple[str, ...] = ()  # what those were called that `text` and `text_2` come from
    series: SeriesInputs | None = None  # what windows of series hold
    aside: dict[str, Column] = field(default_factory=dict)  # that no model sees
    canaries: Canaries | None = None  # what was planted among the training texts

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> list[str]:
        """The names of the first target's classes."""
        return list(self.targets[LABEL].classes) if LABEL in self.targets else []

    @property
    def kind(self) -> str:
        """What a network is to look at: `image`, `audio`, `series`, `text` or `table`."""
        if self.series is not None:
            return "series"
        if self.preprocess is not None:
            return self.preprocess.kind
        return "text" if TEXT in self.texts else "table"

    def pictures(self, rows: Tensor) -> Tensor:
        """Some rows of images or sounds as they can be looked at, uint8 [n, C, H, W]: of sounds the spectrograms."""
        if isinstance(self.preprocess, Sound):
            return pictures(self.tensors["audio"][rows], self.preprocess)
        return self.tensors["image"][rows]

    def told(self, rows: Tensor) -> tuple[list[str], list[int]]:
        """What some rows are called, and the codes of their classes, -1 where there are none."""
        classes = self.targets.get(LABEL) and self.targets[LABEL].task == "classification"
        codes = self.tensors[LABEL][rows].tolist() if classes else [UNLABELLED] * len(rows)
        return [self.names[row] for row in rows.tolist()], codes

    def column(self, name: str, where: str = "data.aside") -> Column:
        """A column by name: one kept aside, an input of the table, or a target of classes or numbers. UsageError where
        there is none of that name, or one that is left out."""
        if name in self.aside:
            return self.aside[name]
        if name in self.table.kinds:
            return self.table.decode(name, self.tensors)
        told = {t.column: k for k, t in self.targets.items() if t.task in ("classification", "regression")}
        if name in told:
            values, classes = self.tensors[told[name]].numpy(), self.targets[told[name]].classes
            return Column("category", values, classes) if classes else Column("number", values.astype(float))
        if unused := [c["note"] for c in self.columns if c["name"] == name and c["role"] == "not used"]:
            raise UsageError(
                f"the column {name!r} is not used: {unused[0]}", where=where,
                expected=f"one of {', '.join(self.column_names)}",
            )  # fmt: skip
        raise unknown("column", name, self.column_names, where=where)

    @property
    def column_names(self) -> list[str]:
        """What `column` knows."""
        told = [t.column for t in self.targets.values() if t.task in ("classification", "regression")]
        return list(dict.fromkeys([*self.aside, *self.table.kinds, *told]))

    def words(self, rows: Tensor) -> list[str]:
        """What some rows say, cut where they are long: their texts, else the columns of a table."""
        if TEXT in self.texts:
            texts = to_read(self.texts, self.chat).values()
            said = [" | ".join(text_of(t, row, _BYTES) for t in texts) for row in rows.tolist()]
        else:
            columns = {n: self.tensors[n] for n in ("numbers", "categories") if n in self.tensors}
            cells = [self.table.cells({n: t[row] for n, t in columns.items()}) for row in rows.tolist()]
            said = [", ".join(f"{name} {value}" for name, value in row) for row in cells]
        return [text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS].rstrip()} …" for text in said]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The columns without the targets: what self-supervision may see."""
        return {name: column for name, column in self.tensors.items() if name not in self.targets}

    def known(self, rows: Tensor, key: str = LABEL) -> Tensor:
        """Whether each row [n] has a value of the target, bool."""
        if key in self.texts:
            return self.texts[key].lengths[rows] > 0
        if key not in self.tensors:
            return torch.zeros(len(rows), dtype=torch.bool)
        column: Any = self.tensors[key]
        if isinstance(column, Windows):
            return column.known(rows)
        values = column[rows]
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

    def draw(
        self, per_class: int | None = None, *, seed: int, draw: int, share: float | None = None
    ) -> Tensor:
        """Labelled training rows: all, `per_class` of each class, or a `share` of them: of each class alike, and of
        windows of series the latest."""
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
        if share is not None:
            return self._share(rows, share, seed, draw)
        if per_class is None:
            return rows
        if self.targets[LABEL].task != "classification":
            raise UsageError(
                f"{self.targets[LABEL].column} has no classes to draw labels of",
                where="data.labels_per_class", expected="no such key",
            )  # fmt: skip
        chosen = draw_labels(self.tensors[LABEL].numpy(), rows.numpy(), per_class, seed=seed, draw=draw)
        return torch.from_numpy(chosen)

    def _share(self, rows: Tensor, share: float, seed: int, draw: int) -> Tensor:
        column: Any = self.tensors.get(LABEL)
        if isinstance(column, Windows):
            blocks = rows.tensor_split((column.starts[rows].diff() != 1).nonzero()[:, 0] + 1)
            return torch.cat([block[-max(1, round(share * len(block))) :] for block in blocks])
        classes = self.targets[LABEL].task == "classification"
        codes = column.numpy() if classes else np.zeros(len(self), np.int64)
        return torch.from_numpy(draw_labels(codes, rows.numpy(), share, seed=seed, draw=draw))

    def others(self, rows: Tensor) -> Tensor:
        """The training rows that are not among these."""
        train = self.splits["train"]
        return train[~torch.isin(train, rows)]

    def with_labels_of(self, rows: Tensor) -> dict[str, Tensor]:
        """The tensors, with the first target's codes of these rows alone: of the others nothing is known."""
        labels = torch.full_like(self.tensors[LABEL], UNLABELLED)
        labels[rows] = self.tensors[LABEL][rows]
        return {**self.tensors, LABEL: labels}

    def about_targets(self, rows: Tensor) -> dict[str, Target]:
        """The targets with what these (training) rows say of them: counts, or mean and deviation."""
        found = {}
        for key, target in self.targets.items():
            mine = rows[self.known(rows, key)]
            if target.task == "text":
                found[key] = replace(target, rows=len(mine))
                continue
            column: Any = self.tensors[key]
            if isinstance(column, Windows):
                # of all training rows: that a window is not to be learnt from does not hide its values
                covered = column.covered(self.splits.get("train", mine))
                means, stds = (tuple(part.tolist()) for part in statistics(covered))
                found[key] = replace(target, rows=len(mine), means=means, stds=stds)
                continue
            values = column[mine]
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
            "stored": str(self.preprocess) if self.preprocess else "",
            "classes": self.classes,
            "splits": splits,
            "duplicates": self.duplicates,
            "quarantined": len(self.quarantine),
            "quarantine": self.quarantine[:20],
            "fingerprint": self.fingerprint,
        }  # fmt: skip
