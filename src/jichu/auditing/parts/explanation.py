"""Why a model says what it says: what it leans on as a whole, and whether what explains single rows can be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing import explaining
from jichu.auditing.blocks import Block
from jichu.auditing.explaining import faithfulness, importance, prototypes, surrogate
from jichu.auditing.explaining.library import captum
from jichu.auditing.explaining.report import blocks
from jichu.auditing.table import answers
from jichu.core.config import Named, Spec
from jichu.core.errors import DataError, UsageError
from jichu.core.progress import say
from jichu.data.dataset import Dataset
from jichu.data.predictions import point
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.metrics.intervals import mean_interval, metric_interval
from jichu.metrics.regression import r2
from jichu.models.layout import laid, plain_order
from jichu.models.model import Model
from jichu.train.predict import embed, predict

from .base import Look, Part, Subject

_SHUFFLED, _TOLD, _LOOKED_AT = 1000, 5000, 500  # rows for the importance, the tree, the prototypes
_PICTURES, _FINEST = 8, 32  # rows that are drawn, and places of a drawing to a side
Worths = list[explaining.Attributed]
Columns = dict[str, Any]


class Explanation(Part):
    """Of the run's own model. Of tables: by how much the error rises where a column is shuffled, a tree that says what the
    model says, and what each column is worth on average. Of all: rows that stand for many, and rows that those do not speak
    for. And whether attribution by `method` (the usual one for the model) can be believed, on `rows` rows: whether it
    depends on the weights, adds up, and names what matters."""

    title = "Why"
    tasks = ("classification", "multilabel", "regression")

    def __init__(
        self,
        method: Named | None = None,
        rows: Annotated[int, Field(ge=2, le=10_000)] = 32,
        depth: Annotated[int, Field(ge=1, le=8)] = 3,
        prototypes: Annotated[int, Field(ge=1, le=50)] = 8,
        criticisms: Annotated[int, Field(ge=0, le=50)] = 8,
    ):
        captum()  # missing, it is told before anything runs
        self.method, self.rows, self.depth = method, rows, depth
        self.prototypes, self.criticisms = prototypes, criticisms
        if self.method is not None:
            explaining.make(self.method, where="parts.explanation.method")

    def check(self, dataset: Dataset, target: Target | None) -> None:
        """The method is one for these data."""
        if self.method is not None:
            explaining.make(self.method, dataset.kind, "parts.explanation.method")

    def measure(self, subject: Subject) -> dict[str, Any]:
        stage = next((name for name in subject.stages if name in subject.fitted), None)
        if stage is None or subject.target is None:
            return {}
        say(f"  explanation of {stage}")
        model = subject.load(stage)
        with laid(model, plain_order(torch.device("cpu"))):
            try:
                found = self._measured(explaining.Asked(model, subject.key, subject.target), subject)
            except (
                UsageError,
                DataError,
            ) as error:  # what only the fitted model tells; the rest of the audit stands
                say(f"  {error}")
                found = {"refused": str(error)}
        return {"of": stage, **found}

    def _measured(self, asked: explaining.Asked, subject: Subject) -> dict[str, Any]:
        columns = explaining.read_by(asked.model, subject.dataset.inputs)
        kind = explaining.kind_of(columns)
        train = subject.dataset.splits.get("train", subject.rows)
        usual = evenly(train, explaining.BACKGROUND)

        def view(asked: explaining.Asked, rows: Tensor) -> explaining.View:
            return explaining.view(asked, columns, rows, subject.dataset.table, usual)

        known = subject.rows[subject.dataset.known(subject.rows, subject.key)]
        rows = evenly(known, self.rows)
        worths = list(explaining.attributed(lambda r: view(asked, r), rows, self.method))
        found = {"method": worths[0].name, "scale": worths[0].method.scale, "rows": len(rows)}
        found["sanity"] = self._sanity(asked, view, worths, subject.seed)
        if kind == "table":
            found |= self._of_columns(asked.model, columns, subject, known, train)
            found["worth"] = _mean_worths(worths, list(subject.dataset.table.kinds), subject.seed)
        else:
            found["drawn"] = _drawn(worths[0], subject.dataset.names)
        return found | self._examples(asked.model, columns, subject)

    # --- can it be believed

    def _sanity(
        self,
        asked: explaining.Asked,
        view: Callable[[explaining.Asked, Tensor], explaining.View],
        worths: Worths,
        seed: int,
    ) -> dict[str, Any]:
        """Whether attribution changes with the weights, adds up, and finds what matters."""
        some, found = worths[0], dict[str, Any]()
        other = explaining.Asked(faithfulness.randomised(asked.model, seed), asked.key, asked.target)
        shuffled = view(other, some.rows)
        shuffled.chosen = some.view.chosen  # the same answers are explained
        alike = faithfulness.alike(some.worth, some.method.attribute(shuffled), some.view.free())
        found["randomised"] = _interval(alike, seed)
        if some.view.differentiable():
            name = "integrated-gradients"
            worth = some.worth if some.name == name else explaining.make(Spec(name=name)).attribute(some.view)
            found["incomplete"] = _interval(faithfulness.incomplete(some.view, worth), seed)
        if asked.target.task != "regression":
            for name, insert in (("deletion", False), ("insertion", True)):
                found[name] = _paired(worths, insert, seed)
        return found

    # --- the columns of a table

    def _of_columns(
        self, model: Model, columns: Columns, subject: Subject, known: Tensor, train: Tensor
    ) -> dict[str, Any]:
        target, table, key = subject.predicted, subject.dataset.table, subject.key
        rows = evenly(known, _SHUFFLED)
        truth = subject.dataset.tensors[key][rows].numpy()

        def told(some: Columns) -> np.ndarray:
            count = len(next(iter(some.values())))
            return answers(target, predict(model, some, torch.arange(count), [key])[key])

        here = {name: values[rows] for name, values in columns.items()}
        rises = importance.permutation(
            here, table, lambda some: _errors(target, truth, told(some)), seed=subject.seed
        )
        found: dict[str, Any] = {
            "importance": {name: mean_interval(v, seed=subject.seed)._asdict() for name, v in rises.items()},
            "importance_rows": len(rows),
        }
        if target.task == "multilabel":  # of which one tree does not tell
            return found
        learn, judge = (evenly(r, _TOLD) for r in (train, known))
        if train is subject.rows:  # other data, without training rows
            learn, judge = learn[::2], learn[1::2]
        sides = [{name: values[r] for name, values in columns.items()} for r in (learn, judge)]
        (x, names), (y, _) = (surrogate.cells(side, table) for side in sides)
        said, wanted = (_point(target, told(side)) for side in sides)
        tree = surrogate.fit(x, said, target, self.depth, subject.seed)
        found["tree"] = {
            "rules": surrogate.rules(tree, names, target), "fidelity": _fidelity(target, wanted, tree.predict(y), subject.seed),
            "rows": len(judge),
        }  # fmt: skip
        return found

    # --- rows that stand for others

    def _examples(self, model: Model, columns: Columns, subject: Subject) -> dict[str, Any]:
        rows = evenly(subject.rows, _LOOKED_AT)
        features = embed(model, columns, rows).to_dense().double().numpy()
        features = np.nan_to_num(features)  # cells that are missing
        like = prototypes.kernel((features - features.mean(0)) / (features.std(0) + 1e-12))
        chosen, others = prototypes.choose(like, self.prototypes, self.criticisms)
        return {
            name: [{"row": int(rows[i]), "record": subject.dataset.names[int(rows[i])]} for i in places]
            for name, places in (("prototypes", chosen), ("criticisms", others))
        } | {"among": len(rows)}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        yield from blocks(found, target, look)


def _interval(values: np.ndarray, seed: int) -> dict[str, float]:
    return {**mean_interval(values, seed=seed)._asdict(), "rows": len(values)}


def _paired(worths: Worths, insert: bool, seed: int) -> dict[str, Any]:
    """The area under the curve of the method, and of places by lot, and how much better the first is."""
    sides: list[list[np.ndarray]] = [[], []]
    for some in worths:
        for side, worth in zip(sides, (some.worth, faithfulness.at_random(some.view, seed)), strict=True):
            side.append(faithfulness.area(faithfulness.curves(some.view, worth, insert=insert)))
    mine, lot = map(np.concatenate, sides)
    better = mine - lot if insert else lot - mine
    return {
        "method": _interval(mine, seed),
        "random": _interval(lot, seed),
        "better": _interval(better, seed),
    }


def _point(target: Target, scores: np.ndarray) -> np.ndarray:
    """The answer of each row: a class's code, or a number."""
    return scores.argmax(1) if target.task == "classification" else scores[:, point(target)]


def _errors(target: Target, truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each row: whether it is wrong, the share of tags that are, or the squared error."""
    if target.task == "multilabel":
        return ((scores > 0.5) != (truth == 1)).mean(1)
    told = _point(target, scores)
    return (told != truth).astype(float) if target.task == "classification" else np.square(told - truth)


def _fidelity(target: Target, wanted: np.ndarray, told: np.ndarray, seed: int) -> dict[str, float]:
    """How often the tree says what the model says; of numbers the share of the variance that it tells."""
    if target.task == "classification":
        return mean_interval(told == wanted, seed=seed)._asdict()
    return metric_interval(r2, wanted, told[None, :, None], seed=seed)._asdict()


def _mean_worths(worths: Worths, names: list[str], seed: int) -> dict[str, Any]:
    whole = torch.cat([some.worth for some in worths]).abs().double().numpy()
    return {name: _interval(column, seed) for name, column in zip(names, whole.T, strict=True)}


def _drawn(some: explaining.Attributed, names: Sequence[str]) -> list[dict[str, Any]]:
    """What some rows' places are worth, as it is drawn: coarsely, and of sounds high pitches above. Nothing of what has no
    height and width."""
    if some.worth.ndim < 3:
        return []
    height, width = (min(_FINEST, side) for side in some.worth.shape[1:])
    coarse = torch.nn.functional.adaptive_avg_pool2d(some.worth[:_PICTURES].double(), (height, width))
    if some.view.kind == "audio":
        coarse = coarse.transpose(1, 2).flip(1)
    return [
        {"row": row, "record": names[row], "worth": [[float(f"{v:.3g}") for v in line] for line in worth]}
        for row, worth in zip(some.rows.tolist(), coarse.tolist(), strict=False)
    ]
