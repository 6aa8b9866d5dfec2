"""Would more rows help? The same training on shares of them, and the curve on which the errors lie."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table, interval
from jichu.core.config import Named
from jichu.core.progress import number
from jichu.core.words import named, retold, words
from jichu.data.dataset import Dataset
from jichu.data.splits import draw_labels
from jichu.data.target import Target
from jichu.metrics import metric
from jichu.metrics.intervals import Interval, resamples
from jichu.metrics.power_law import PowerLaw, outlook
from jichu.models.model import Model

from .base import Look, Part, Subject

_SHARES = (0.1, 0.25, 0.5, 1.0)
_FEWEST = 10  # rows that a model is trained on
_METRICS = {"classification": "accuracy", "multilabel": "hamming_loss", "regression": "rmse"}
Share = Annotated[float, Field(gt=0, le=1)]


class LearningCurve(Part):
    """The error of each stage on `rows` held-out rows after training on `shares` of its training rows, `repeats` times
    (samples are nested, and have of each class alike): what it lacks of a `metric` of which 1 is best, or a loss as it is.
    And, where the errors lie on a power law (Hestness et al., 2017), what twice the rows would leave of it. Of the first
    target. It takes as long as training does, `repeats` times and again."""

    title = "Would more rows help?"
    tasks = ("classification", "multilabel", "regression")
    each_target = False

    def __init__(
        self,
        shares: Annotated[list[Share], Field(min_length=2)] | None = None,
        repeats: Annotated[int, Field(ge=1, le=100)] = 3,
        rows: Annotated[int, Field(ge=2)] = 2000,
        metric: Named | None = None,
    ):
        self.shares = sorted(set(map(float, shares or _SHARES)))
        self.repeats, self.rows, self.metric = repeats, rows, metric

    def check(self, dataset: Dataset, target: Target | None) -> None:
        """The metric is one for the task."""
        assert target is not None
        self._error(target)

    def _error(self, target: Target) -> tuple[str, Callable[..., float]]:
        """What a metric of which 1 is best lacks of that, or a loss; and how it is called."""
        name, given = _METRICS[target.task], dict[str, Any]()
        if self.metric is not None:
            name, given = self.metric.name, self.metric.arguments
        score = metric(name, task=target.task, where="parts.learning-curve.metric", **given)
        if getattr(score, "lower_is_better", False):
            return name, score
        return f"1 - {name}", lambda truth, scores: 1 - score(truth, scores)

    def measure(self, subject: Subject) -> dict[str, Any]:
        if isinstance(subject.retrain, str):
            return {"refused": subject.retrain, "models": {}}
        held_out, target = subject.sample(self.rows), subject.predicted
        about: dict[str, Any] = {
            "error": self._error(target)[0],
            "rows": len(held_out),
            "repeats": self.repeats,
        }
        draws = [nested(subject, self.shares, repeat) for repeat in range(self.repeats)]
        if len(draws[0]) < 2:
            few = f"{len(subject.trained_on)} rows are too few to take shares of"
            return about | {"refused": few, "models": {}}
        return about | {"models": {s: self._of(s, subject, held_out, draws) for s in subject.fitted}}

    def _of(
        self, stage: str, subject: Subject, held_out: Tensor, draws: list[list[Tensor]]
    ) -> dict[str, Any]:
        """One repetition after the other, so that the time that is left can be told."""
        samples, target = [rows for draw in draws for rows in draw], subject.predicted
        tell = functools.partial(_answers, subject, held_out)
        told = subject.trained_anew(stage, samples, tell, f"learning curve of {stage}")
        scores = np.array(told, np.float64).reshape(len(draws), len(draws[0]), len(held_out), -1)
        scores = scores[..., 0] if target.task == "regression" else scores
        truth, error = subject.truth(held_out), self._error(target)[1]

        def errors(draw: int, picked: np.ndarray) -> np.ndarray:
            return np.array([error(truth[picked], each[picked]) for each in scores[draw]])

        found, resampled = resamples(errors, len(draws), len(held_out), seed=subject.seed)
        return _curve([len(rows) for rows in draws[0]], found, resampled)

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if "refused" in found:
            yield Note(words("No model could be trained on fewer rows: {why}.", why=retold(found["refused"])))
            return
        models = found["models"]
        points = {stage: m["points"] for stage, m in models.items()}
        sizes = next(iter(points.values()))
        yield Table(
            [
                words("{error} after training on", error=named(found["error"])),
                *(words("{rows:,} rows", rows=p["at"]) for p in sizes),
            ],
            [[stage, *of] for stage, of in points.items()],
        )
        lines = {}
        for stage, m in models.items():
            if m["law"] is not None:
                at = np.geomspace(points[stage][0]["at"], m["doubled"]["at"], 60)
                lines[stage] = (at, PowerLaw(**m["law"]).at(at))
        yield Figure(figures.scaling(points, words("training rows"), named(found["error"]), lines=lines))
        for stage, m in models.items():
            yield Note(_words(stage, m))
        yield Note(
            words(
                "Trained {repeats} times at each size, on nested samples, and measured on {rows:,} held-out rows; the intervals"
                " are over both. A curve is fitted to each resample of them.",
                repeats=found["repeats"], rows=found["rows"],
            )
        )  # fmt: skip


def nested(subject: Subject, shares: list[float], repeat: int) -> list[Tensor]:
    """Samples of the training rows, each within the next, of each class alike; of sizes that differ."""
    target, dataset = subject.predicted, subject.dataset
    classes = target.task == "classification"
    codes = dataset.tensors[subject.key].numpy() if classes else np.zeros(len(dataset), np.int64)
    rows = subject.trained_on[dataset.known(subject.trained_on, subject.key)].numpy()
    if not len(rows):
        return []
    drawn = [draw_labels(codes, rows, share, seed=subject.seed, draw=repeat) for share in shares]
    return [*{len(s): torch.from_numpy(s) for s in drawn if len(s) >= _FEWEST}.values()]


def _answers(subject: Subject, held_out: Tensor, model: Model, rows: Tensor) -> np.ndarray:
    """Probabilities [N, K], or predicted numbers [N, 1], of a model that was trained on these rows."""
    target = subject.predicted
    if target.task == "regression":  # in units that these rows tell
        learnt = subject.dataset.about_targets(rows)[subject.key]
        target = replace(target, mean=learnt.mean, std=learnt.std)
    told = replace(subject, target=target).answers(model, held_out)
    return told[:, [target.point]] if target.task == "regression" else told


def _curve(sizes: list[int], errors: np.ndarray, resampled: np.ndarray) -> dict[str, Any]:
    points = [
        {"at": size, **Interval.of(error, resampled[:, i])._asdict()}
        for i, (size, error) in enumerate(zip(sizes, errors, strict=True))
    ]
    law, doubled, why = outlook(np.array(sizes, float), errors, resampled)
    return {
        "points": points,
        "law": law and law._asdict(),
        "doubled": doubled and {"at": 2 * sizes[-1], **doubled._asdict()},
        "why": why,
    }


def _words(stage: str, m: dict[str, Any]) -> str:
    now, then, law = m["points"][-1], m["doubled"], m["law"]
    if then is None:
        return words(
            "What twice the rows would give {stage} cannot be told: {why}.", stage=stage, why=retold(m["why"])
        )
    falls = f"{number(law['scale'])}·n^-{number(law['exponent'])} + {number(law['floor'])}"
    return words(
        "Twice the rows, {rows:,}, would bring {stage} from {now} to {then}, if it goes on falling as {falls}.",
        rows=then["at"], stage=stage, now=number(now["value"]), then=" ".join(interval(then)), falls=falls,
    )  # fmt: skip
