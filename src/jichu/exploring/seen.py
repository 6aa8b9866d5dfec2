"""What a run's model makes of the rows of its data, found once and kept in the run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from jichu.auditing.asking import ask
from jichu.constraints.answering import answered
from jichu.core.errors import DataError, DiskFull, UsageError, unknown
from jichu.core.files import fingerprint, replacing
from jichu.core.progress import task
from jichu.data.dataset import Dataset
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.models.model import Model
from jichu.models.weights import read_tensors
from jichu.train.predict import embed

from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from jichu.runs import Run

MOST = {"train": 50_000, "test": 5_000}  # rows of each part that are looked at
_AT_ONCE = 2048  # rows between two looks at the progress


class Seen:
    """The training rows (`train`) and the held-out ones (`test`; where there are none those for validation), of more
    than MOST an even sample.

    What is found lies in the folder `cache` of the run, in files that are whole or not there and are named by the
    model, the data and the rows: of anything else they are not taken up, and they may be deleted."""

    def __init__(self, run: Run, dataset: Dataset):
        if run.config.language or run.config.series is not None:
            raise UsageError(
                "models that write texts and forecasts are not looked at by row",
                expected="a model of images, sounds, texts or tables that has features",
            )
        self.run, self.dataset = run, dataset
        self._held: dict[str, dict[str, Tensor]] = {}
        self.maps: dict[tuple[str, int, int], Any] = {}  # that were made

    def rows(self, part: str) -> Tensor:
        """The rows of a part that are looked at, in order. UsageError where there are none."""
        splits = self.dataset.splits
        wanted = ("test", "validation") if part == "test" else (part,)
        found = next((splits[name] for name in wanted if len(splits.get(name, ()))), None)
        if found is None:
            named = "held-out" if part == "test" else part
            raise UsageError(
                f"no {named} rows",
                where=Path(self.dataset.source),
                expected="data.split.test, or data that have some",
            )
        return evenly(found.sort().values, MOST[part])

    def split_of(self, row: int) -> str:
        """The split that a row is in. UsageError where there is no such row."""
        for name, rows in self.dataset.splits.items():
            if 0 <= row < len(self.dataset) and bool((rows == row).any()):
                return name
        raise UsageError(
            f"no row {row}", expected=f"one of the {len(self.dataset):,} rows that are used, from 0"
        )

    def features(self, part: str) -> np.ndarray:
        """Pooled features [n, D] of the rows. UsageError where they are counts of words."""
        return self.kept("features", part, lambda rows: {"": self._features(rows)})[""].numpy()

    def _features(self, rows: Tensor) -> Tensor:
        parts = []
        with task(f"features of {len(rows):,} rows", len(rows)) as shown:
            for piece in rows.split(_AT_ONCE):
                parts.append(embed(self.run.model, self.dataset.inputs, piece))
                if parts[-1].is_sparse:
                    raise UsageError(
                        "the features of this model are counts of words", expected="a run with a network"
                    )
                shown.advance(len(piece))
        return torch.cat(parts)

    def scores(self, part: str) -> dict[str, np.ndarray]:
        """Of each target what the model alone says of the rows: probabilities [n, K], or numbers [n, Q]."""
        self.run.require_head()
        return {key: found.numpy() for key, found in self.kept("answers", part, self._scores).items()}

    def _scores(self, rows: Tensor) -> dict[str, Tensor]:
        said = ask(self.run.model, self.run.targets, self.dataset.inputs, rows)
        return {key: torch.from_numpy(found) for key, found in said.items()}

    def told(self, rows: Tensor, scores: dict[str, np.ndarray] | None = None) -> list[dict[str, Any]]:
        """What is said of some rows in the end, rules kept, by target column; nothing where the model has no head."""
        if not self.has_head:
            return [{} for _ in rows]
        if scores is None:
            scores = {key: found.numpy() for key, found in self._scores(rows).items()}
        rules, targets = self.run.rules, self.run.targets
        columns = rules.of_rows(self.dataset, rows) if rules else {}
        names = [""] * len(rows)
        found = answered(names, targets, scores, rules, columns)
        (column, *others) = (target.column for target in targets.values())
        plain = [{key: value for key, value in row.items() if key not in ("input", "rules")} for row in found]
        return plain if others else [{column: row} for row in plain]

    @cached_property
    def has_head(self) -> bool:
        """Whether the model has heads that answer."""
        return bool(self.run.targets) and set(self.run.targets) <= set(self.run.config.heads)

    def of_classes(self, column: str | None) -> tuple[str, Target]:
        """The key and the target of classes that is asked about, the first if none is named. UsageError where there is none."""
        self.run.require_head()
        found = {t.column: (key, t) for key, t in self.run.targets.items() if t.task == "classification"}
        if not found:
            raise UsageError(
                "this model has no classes that could be wrong, or change", expected="a model of classes"
            )
        if column is not None and column not in found:
            raise unknown("target of classes", column, found, where="column")
        return next(iter(found.values())) if column is None else found[column]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the training texts."""
        return Vocabulary(self.dataset, self.rows("train"), cast(Model, self.run.model), self.run.tokenizer)

    def kept(
        self, name: str, part: str, find: Callable[[Tensor], dict[str, Tensor]], *of: object
    ) -> dict[str, Tensor]:
        """What `find` gives of the rows of a part, or gave before."""
        rows, key = self.rows(part), f"{name}-{part}"
        if key not in self._held:
            data = self.dataset.fingerprint
            told = fingerprint(self.run.fingerprint, data, rows.numpy().data, *of)
            path = self.run.folder.cache / f"{key}-{told}.safetensors"
            try:
                found = read_tensors(path)
            except (DataError, UsageError):  # there is none, or it is damaged
                found = {each: tensor.contiguous() for each, tensor in find(rows).items()}
                if data:  # else nothing tells it from other data
                    with contextlib.suppress(OSError, DiskFull), replacing(path) as temporary:
                        save_file(found, temporary)
            self._held[key] = found
        return self._held[key]
