"""Whether what a run's model is asked, and what it answers, are still what it was made for."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jichu.auditing.asking import ask_and_look
from jichu.core.errors import DataError, UsageError
from jichu.core.files import write_json
from jichu.core.words import speaking
from jichu.data import given, readers, requests
from jichu.data.dataset import Dataset
from jichu.data.given import Inputs
from jichu.data.media import KINDS
from jichu.data.personal import without
from jichu.data.source import Column
from jichu.data.texts import text_of, to_read
from jichu.data.traits import header, of_images, of_sounds, sizes
from jichu.runs import Run
from jichu.ship.drift import observed, page
from jichu.ship.drift.compare import Pair, Sides, compare
from jichu.ship.signature import TASKS
from jichu.ship.version import version

REFERENCES = ("auto", "train", "test")
ROWS = 10_000  # of logs, and of the reference, at most: which ones is drawn
_WORDS = 20_000  # training texts whose words are known
PAGE, FIGURES = "drift.html", "drift.json"
Looked = tuple[dict[str, np.ndarray], np.ndarray | None]  # scores [N, K] by target, and features [N, D]


@dataclass
class Side:
    """What is known of some rows."""

    inputs: dict[str, Column]
    predictions: dict[str, Column] = field(default_factory=dict)
    features: np.ndarray | None = None
    times: np.ndarray | None = None
    rows: int = 0


def drift(
    run: Run | str | Path, logs: Any, *, reference: str = "auto", alpha: float = 0.05, seed: int = 0,
    output: str | Path | None = None, data: Any = None, language: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare logs, a folder of `jichu serve --set keep=…` or data as the run reads them, with the run's own data (or
    `data`, where those were given in Python): inputs with the rows of `reference`, train or test (auto: train where the splits
    were drawn at random, else test, which may differ from it); predictions, features and
    the share of new words with held-out rows. Gives {"alarm", "alarms", "tests", …}, and writes them with a page
    into `output`, by default the run's folder `drift`.

    DataError where there are no rows, or the run's own data have changed; UsageError where the model reads series, or a level is none."""
    run = run if isinstance(run, Run) else Run(run)
    if not 0 < alpha < 1:
        raise UsageError(
            f"a level of {alpha}", where="--alpha", expected="a number between 0 and 1, such as 0.05"
        )
    if reference not in REFERENCES:
        raise UsageError(f"the reference {reference!r}", where="--reference", expected="auto, train or test")
    if run.config.series is not None:
        raise UsageError(
            "the model reads series, whose rows are not alike", expected="images, sounds, texts or a table"
        )
    made = Comparison(run, run.reference(data), reference, seed)
    folder = requests.folder_of(Path(logs)) if isinstance(logs, (str, Path)) else None
    mine = made.of_requests(folder) if folder else made.of_data(logs)
    found = made.about(logs, mine) | compare(made.sides(mine), alpha, seed)
    place = Path(output) if output is not None else run.path / "drift"
    write_json(place / FIGURES, found)
    with speaking(language or run.recipe.language):
        page.write(place / PAGE, found)
    return found | {"page": str(place / PAGE)}


class Comparison:
    """The reference, and the logs made like it. `told` is what a reader has to know of how it was done."""

    def __init__(self, run: Run, dataset: Dataset, reference: str, seed: int):
        self.run, self.dataset, self._rng = run, dataset, np.random.default_rng(seed)
        self.told: dict[str, Any] = {}
        targets, config = run.config.targets.values(), run.config
        self._answers = bool(targets) and all(target.task in TASKS for target in targets)
        self._looks = self._answers or not (targets or config.language)
        splits = {name: rows for name, rows in dataset.splits.items() if len(rows)}
        held_out = next((name for name in ("test", "validation") if name in splits), "train")
        split = run.recipe.data.split
        if reference == "auto":
            drawn = not (dataset.splits_given or split.group or split.time)
            reference = "train" if drawn else held_out
        self.rows = self._some(splits.get(reference, splits[held_out]))
        self.held_out = self._some(splits[held_out])
        trained = self._some(splits.get("train", splits[held_out]), _WORDS) if dataset.kind == "text" else ()
        self._known = {word for row in map(int, trained) for word in observed.words_of(self._text(row))}
        self._masked = False  # whether personal data are taken out of the logs
        self.told |= {"reference": reference if reference in splits else held_out, "held_out": held_out}

    def _some(self, rows: Tensor, most: int = ROWS) -> Tensor:
        return rows[torch.from_numpy(self._chosen(len(rows), most))]

    def _chosen(self, count: int, most: int = ROWS) -> np.ndarray:
        """Places of rows, in order: all, or as many as are looked at, drawn."""
        return np.arange(count) if count <= most else np.sort(self._rng.permutation(count)[:most])

    def about(self, logs: Any, side: Side) -> dict[str, Any]:
        """What was compared with what."""
        ends = None if side.times is None else (side.times.min(), side.times.max())
        return {
            "run": self.run.path.resolve().name, "version": version(self.run),
            "logs": str(logs) if isinstance(logs, (str, Path)) else "the data given", "rows": side.rows,
            "times": ends and [str(time.astype("datetime64[s]")) for time in ends],
            "reference_rows": len(self.rows), "held_out_rows": len(self.held_out), "told": self.told,
        }  # fmt: skip

    def sides(self, logs: Side) -> Sides:
        """Reference and logs, column by column."""
        reference = self.inputs_of(self.rows)
        if observed.NEW_WORDS in reference:  # which training texts have none of
            reference[observed.NEW_WORDS] = self.inputs_of(self.held_out)[observed.NEW_WORDS]
            if self.told["held_out"] == "train":
                del reference[observed.NEW_WORDS]
        scores, features = self.seen(self.dataset.tensors, self.held_out) if self._looks else ({}, None)
        predictions = observed.of_scores(self.run.targets, scores)
        pairs = [Pair(n, "inputs", c, logs.inputs[n]) for n, c in reference.items() if n in logs.inputs]
        pairs += [
            Pair(n, "predictions", c, logs.predictions[n])
            for n, c in predictions.items()
            if n in logs.predictions
        ]
        both = features is not None and logs.features is not None and len(logs.features) > 0
        alike = both and features.shape[1] == logs.features.shape[1]  # type: ignore[union-attr]
        return Sides(pairs, (features, logs.features) if alike else None, logs.times)  # type: ignore[arg-type]

    # --- the reference

    def _text(self, row: int) -> str:
        return "\n".join(text_of(t, row) for t in to_read(self.dataset.texts, self.dataset.chat).values())

    def inputs_of(self, rows: Tensor) -> dict[str, Column]:
        """What rows of the run's data are like."""
        dataset = self.dataset
        if dataset.kind == "text":
            texts = [self._text(row) for row in rows.tolist()]
            return observed.of_texts([without(t) for t in texts] if self._masked else texts, self._known)
        if dataset.kind in KINDS:
            headers = [dataset.headers.get(row) for row in rows.tolist()]
            return self._traits(dataset.tensors[dataset.kind], rows, headers)
        return observed.of_table(dataset.table, {name: t[rows] for name, t in dataset.inputs.items()})

    def _traits(self, tensor: Tensor, rows: Tensor, headers: list[Any]) -> dict[str, Column]:
        kind = self.dataset.kind
        found = (of_images if kind == "image" else of_sounds)(tensor, rows) | sizes(kind, headers)
        return {name: _known_of(values) for name, values in found.items()}

    def seen(self, tensors: dict[str, Tensor], rows: Tensor) -> Looked:
        """What the model says of rows by target, and its features of them, where it has such."""
        return ask_and_look(self.run.model, self.run.targets if self._answers else {}, tensors, rows)

    # --- the logs

    def of_requests(self, folder: Path) -> Side:
        """What a server kept. What another version answered is asked again, as far as the inputs are there."""
        table = requests.read_requests(folder)
        if table is None:
            raise DataError(
                "no requests are kept there", where=folder, expected="rows that jichu serve wrote"
            )
        total, self._masked = len(table), True
        table = table.take(pa.array(self._chosen(total)))
        self._sampled(total)
        mine = version(self.run).rpartition("@")[2]
        same = np.array([v.rpartition("@")[2] == mine for v in table[requests.VERSION].to_pylist()])
        found = Side({}, rows=total, times=table[requests.TIME].to_numpy().astype("datetime64[us]"))
        kept = requests.named(table, requests.INPUT)
        there = self._there(kept, total=len(table))
        again = there & ~same
        if self.dataset.kind in KINDS:
            traits = requests.named(table, requests.TRAIT)
            found.inputs = {name: _known_of(cells.to_numpy()) for name, cells in traits.items()}
            there = again  # no other is decoded
        whole = {name: cells.filter(pa.array(there)) for name, cells in kept.items()}
        inputs = self._read(found, whole) if there.any() else None
        if self._looks:
            looked = [self._stored(table.filter(pa.array(same)))]
            if inputs is not None and again.any():
                looked.append(self.seen(inputs.tensors, torch.from_numpy(np.flatnonzero(again[there]))))
            self._compared(found, looked)
        if not same.all():
            self.told |= {"other_versions": int((~same).sum()), "asked_again": int(again.sum())}
        return found

    def _there(self, kept: dict[str, pa.ChunkedArray], total: int) -> np.ndarray:
        """Which rows are kept as they came: of images and sounds some may be whole, of a table all are, whose cells may be missing."""
        kind = self.dataset.kind
        if kind == "table":
            return np.ones(total, bool)
        parts = [cells for name, cells in kept.items() if kind not in KINDS or name == kind]
        return np.logical_and.reduce(
            [cells.is_valid().to_numpy() for cells in parts] or [np.zeros(total, bool)]
        )

    def _read(self, found: Side, kept: dict[str, pa.ChunkedArray]) -> Inputs:
        """Images, sounds, texts or the columns of a table, as the model reads them."""
        if self.dataset.kind in KINDS:
            return self.run.inputs(kept[self.dataset.kind].to_pylist())
        if self.dataset.kind == "text":
            columns = [cells.to_pylist() for cells in kept.values()]
            rows = list(zip(*columns, strict=True))
            found.inputs = observed.of_texts(["\n".join(row) for row in rows], self._known)
            return self.run.inputs([row[0] if len(row) == 1 else row for row in rows])
        given = self.run.inputs(pa.table(kept))
        found.inputs = observed.of_table(self.dataset.table, given.tensors, given.columns)
        return given

    def _stored(self, table: pa.Table) -> Looked:
        """The scores and features that were kept."""
        keys = {target.column: key for key, target in self.run.targets.items()}
        kept = {n: cells.drop_null() for n, cells in requests.named(table, requests.SCORES).items()}
        scores = {keys[n]: _stacked(cells) for n, cells in kept.items() if n in keys and len(cells)}
        if requests.EMBEDDING not in table.column_names:
            return scores, None
        cells = table[requests.EMBEDDING].drop_null()
        return scores, _stacked(cells) if len(cells) else None

    def _compared(self, found: Side, looked: list[Looked]) -> None:
        """What was kept and what was asked again, one below the other."""
        parts = {key: [scores[key] for scores, _ in looked if key in scores] for key in self.run.targets}
        scores = {key: np.concatenate(some) for key, some in parts.items() if some}
        found.predictions = observed.of_scores(self.run.targets, scores)
        features = [part for _, part in looked if part is not None]
        found.features = np.concatenate(features) if features else None

    def of_data(self, logs: Any) -> Side:
        """Data as the run reads them; labels are not asked for."""
        text = self.run.config.text
        found = Side({})
        if text is not None:
            _, columns = given.texts(logs, text, self.run.recipe.data)
            rows = list(zip(*columns, strict=True))
            found.rows = len(rows)
            self._sampled(len(rows))
            rows = [rows[i] for i in self._chosen(len(rows)).tolist()]
            found.inputs = observed.of_texts(["\n".join(row) for row in rows], self._known)
            inputs = self.run.inputs([row[0] if len(row) == 1 else row for row in rows])
        elif self.dataset.kind in KINDS:
            inputs = self._media(found, logs)
        else:
            inputs = self._some_of(self.run.inputs(logs), found)
            found.inputs = observed.of_table(self.dataset.table, inputs.tensors, inputs.columns)
        if self._looks:
            self._compared(found, [self.seen(inputs.tensors, torch.arange(len(inputs.names)))])
        return found

    def _some_of(self, whole: Inputs, found: Side) -> Inputs:
        """The rows of a table that are looked at, and of its columns those that the model reads."""
        found.rows = len(whole.names)
        self._sampled(found.rows)
        chosen = self._chosen(found.rows)
        names = [whole.names[i] for i in chosen.tolist()]
        tensors = {name: tensor[torch.from_numpy(chosen)] for name, tensor in whole.tensors.items()}
        wanted = {name: whole.columns[name] for name in self.dataset.table.kinds}
        return Inputs(names, tensors, {n: replace(c, values=c.values[chosen]) for n, c in wanted.items()})

    def _media(self, found: Side, logs: Any) -> Inputs:
        """Images or sounds; those that cannot be decoded are counted."""
        kind, how = self.dataset.kind, self.dataset.preprocess
        if isinstance(logs, (str, Path)):
            columns = readers.read(logs, self.run.recipe.data.reader).columns
            column = next((c for c in columns.values() if c.kind == kind), None)
            if column is None:
                raise DataError(
                    f"no column of {kind}s", where=logs, expected=f"{kind}s, which the model reads"
                )
            items: Any = column.values
        else:
            items = list(logs)
        found.rows = len(items)
        self._sampled(len(items))
        headers, arrays = [], []
        for i in self._chosen(len(items)).tolist():
            with contextlib.suppress(*KINDS[kind].unreadable):
                arrays.append(KINDS[kind].decode(items[i], how))
                headers.append(header(kind, items[i]))
        self.told["unreadable"] = min(len(items), ROWS) - len(arrays)
        if not arrays:
            raise DataError(
                f"no {kind} can be decoded", where=logs if isinstance(logs, (str, Path)) else None
            )
        tensor = torch.from_numpy(np.stack(arrays))
        found.inputs = self._traits(tensor, torch.arange(len(tensor)), headers)
        return Inputs([""] * len(tensor), {kind: tensor})

    def _sampled(self, total: int) -> None:
        if not total:
            raise DataError("no rows to compare", expected="one at least")
        self.told["sampled"] = total > ROWS


def _known_of(values: np.ndarray) -> Column:
    """Numbers, those that nobody knows left out: of sizes of which only some were looked at."""
    return Column("number", values[~np.isnan(values)])


def _stacked(cells: pa.ChunkedArray) -> np.ndarray:
    """Lists of equal length as [N, K]."""
    flat = cells.combine_chunks()
    return flat.flatten().to_numpy().reshape(len(flat), -1)
