"""Would more rows help? The same training on shares of them, and the curve on which the errors lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from jichu.auditing import figures
from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Figure, Note, Table
from jichu.core.config import Named
from jichu.core.progress import number
from jichu.data.dataset import Dataset
from jichu.data.splits import draw_labels
from jichu.data.target import Target
from jichu.metrics import metric
from jichu.metrics.intervals import Interval, resamples
from jichu.metrics.power_law import PowerLaw, outlook
from jichu.models.model import Model
from jichu.train.predict import predict

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
        self._metric(target)

    def _metric(self, target: Target) -> tuple[str, Any]:
        name, given = _METRICS[target.task], dict[str, Any]()
        if self.metric is not None:
            name, given = self.metric.name, self.metric.arguments
        return name, metric(name, task=target.task, where="parts.learning-curve.metric", **given)

    def measure(self, subject: Subject) -> dict[str, Any]:
        if isinstance(subject.retrain, str):
            return {"refused": subject.retrain, "models": {}}
        assert subject.target is not None
        name, score = self._metric(subject.target)
        rising = not getattr(score, "lower_is_better", False)
        held_out = subject.sample(self.rows)
        about = {"error": f"1 - {name}" if rising else name, "rows": len(held_out), "repeats": self.repeats}
        draws = [nested(subject, self.shares, repeat) for repeat in range(self.repeats)]
        if len(draws[0]) < 2:
            return about | {
                "refused": f"{len(subject.trained_on)} rows are too few to take shares of",
                "models": {},
            }
        models = {}
        for stage in subject.fitted:

            def answers(model: Model, rows: Tensor) -> np.ndarray:
                return _answers(subject, model, rows, held_out)

            samples = [rows for draw in draws for rows in draw]
            told = subject.trained_anew(stage, samples, answers, f"learning curve of {stage}")
            scores = np.array(told, np.float64).reshape(self.repeats, len(draws[0]), len(held_out), -1)
            if subject.target.task == "regression":
                scores = scores[..., 0]
            truth = subject.dataset.tensors[subject.key][held_out].numpy()

            def errors(
                draw: int, picked: np.ndarray, truth: np.ndarray = truth, scores: np.ndarray = scores
            ) -> np.ndarray:
                found = np.array([score(truth[picked], each[picked]) for each in scores[draw]])
                return 1 - found if rising else found

            found, resampled = resamples(errors, self.repeats, len(held_out), seed=subject.seed)
            models[stage] = _curve([len(rows) for rows in draws[0]], found, resampled)
        return about | {"models": models}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if "refused" in found:
            yield Note(f"No model could be trained on fewer rows: {found['refused']}.")
            return
        models = found["models"]
        points = {stage: m["points"] for stage, m in models.items()}
        sizes = next(iter(points.values()))
        yield Table(
            [f"{found['error']} after training on", *(f"{p['at']:,} rows" for p in sizes)],
            [[stage, *of] for stage, of in points.items()],
        )
        lines = {}
        for stage, m in models.items():
            if m["law"] is not None:
                at = np.geomspace(points[stage][0]["at"], m["doubled"]["at"], 60)
                lines[stage] = (at, PowerLaw(**m["law"]).at(at))
        yield Figure(figures.scaling(points, "training rows", found["error"], lines=lines))
        for stage, m in models.items():
            yield Note(_words(stage, m))
        yield Note(
            f"Trained {found['repeats']} times at each size, on nested samples, and measured on {found['rows']:,}"
            " held-out rows; the intervals are over both. A curve is fitted to each resample of them."
        )


def nested(subject: Subject, shares: list[float], repeat: int) -> list[Tensor]:
    """Samples of the training rows, each within the next, of each class alike; of sizes that differ."""
    assert subject.target is not None
    classes = subject.target.task == "classification"
    codes = (
        subject.dataset.tensors[subject.key].numpy() if classes else np.zeros(len(subject.dataset), np.int64)
    )
    rows = subject.trained_on[subject.dataset.known(subject.trained_on, subject.key)].numpy()
    drawn = (
        [draw_labels(codes, rows, share, seed=subject.seed, draw=repeat) for share in shares]
        if len(rows)
        else []
    )
    sized = {len(sample): torch.from_numpy(sample) for sample in drawn if len(sample) >= _FEWEST}
    return [*sized.values()]


def _answers(subject: Subject, model: Model, rows: Tensor, held_out: Tensor) -> np.ndarray:
    """Probabilities [N, K], or predicted numbers [N, 1], of a model that was trained on these rows."""
    target = subject.target
    assert target is not None
    if target.task == "regression":  # in units that these rows tell
        learnt = subject.dataset.about_targets(rows)[subject.key]
        target = replace(target, mean=learnt.mean, std=learnt.std)
    outputs = predict(model, subject.dataset.inputs, held_out, [subject.key])[subject.key]
    told = tables.answers(target, outputs)
    return told[:, [tables.point(target)]] if target.task == "regression" else told


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
        return f"What twice the rows would give {stage} cannot be told: {m['why']}."
    falls = f"{number(law['scale'])}·n^-{number(law['exponent'])} + {number(law['floor'])}"
    return (
        f"Twice the rows, {then['at']:,}, would bring {stage} from {number(now['value'])} to {number(then['value'])}"
        f" [{number(then['low'])}, {number(then['high'])}], if it goes on falling as {falls}."
    )
