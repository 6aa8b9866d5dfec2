"""The stage that makes a fitted model smaller."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from jichu.auditing import table as tables
from jichu.auditing.measure import USUAL
from jichu.auditing.table import answers
from jichu.compression import steps as stepping
from jichu.compression.base import Subject
from jichu.compression.size import size, told
from jichu.core.files import write_json, write_table
from jichu.core.progress import say
from jichu.data.batches import gather
from jichu.metrics import metric
from jichu.models import folder as model_folder
from jichu.models.folder import ModelConfig
from jichu.train.fitted import Fitted
from jichu.train.predict import predict

from .build import Work
from .calibrating import calibrated
from .config import CompressStage
from .fitting import train
from .origins import make, start
from .results import Result, part_of, result
from .weighing import reweighed

_SCORED = ("classification", "multilabel", "regression")


def compress(stage: CompressStage, work: Work) -> Result:
    """Change the model of an earlier stage or run, train it again, and predict the held-out rows."""
    started = time.monotonic()
    rows, dataset = work.draw(0), work.dataset
    work = work.on(reweighed(dataset, stage.reweigh, rows)) if stage.reweigh else work
    subject, steps = start(stage, work, rows), make(stage, f"{stage.name}.steps")
    held_out = dataset.labelled("test") if "test" in dataset.splits else rows[:0]

    def answer() -> dict[str, Tensor]:
        return predict(subject.model.eval(), dataset.inputs, held_out, list(subject.config.targets))

    example, fitted = gather(dataset.inputs, rows[:1]), Fitted()
    sizes, outputs = [size(subject.model, example)], {"before": answer()}
    stepping.begin(steps, subject)
    if stage.trains:
        outputs["cut"] = answer()
        fitted = train(subject.model, subject.objective, stage, rows, work, stage.name, steps=steps)
    stepping.end(steps, subject.model.eval(), stage.trains)
    sizes.append(size(subject.model, example))
    subject.config.targets = calibrated(subject.model, subject.config.targets, stage, work)
    outputs["after"] = answer()
    scores = {when: _score(work, held_out, subject.config, each) for when, each in outputs.items()}
    remarks = stepping.remarks(steps)
    _tell(stage.name, sizes, {when: value for when, value in scores.items() if value is not None},
          _metric(subject.config), remarks)  # fmt: skip
    if work.folder.writes:
        spent = time.monotonic() - started + fitted.before
        _write(stage.name, subject, work, held_out, outputs["after"], spent)
    metrics: dict[str, Any] = {"size": dict(zip(("before", "after"), sizes, strict=True))}
    metrics |= {"score": scores, "labelled_rows": len(rows)}
    found = result(fitted, subject.model, work, stage.name, metrics)
    return {**found, "warnings": [*fitted.remarks, *remarks]}


def _tell(
    name: str, sizes: list[dict[str, int]], scores: dict[str, float], of: str, remarks: list[str]
) -> None:
    say(f"  {name}: {told(*sizes)}")
    for remark in remarks:
        say(f"  {remark}")
    if scores:
        say(f"  {of} of the held-out rows: {', '.join(f'{v:.4g} {when}' for when, v in scores.items())}")


def _write(
    name: str, subject: Subject, work: Work, held_out: Tensor, outputs: dict[str, Tensor], spent: float
) -> None:
    """The model, and what it says of the held-out rows."""
    dataset, config = work.dataset, subject.config
    model_folder.save(work.folder.stage_model(name), subject.model, config, work.tokenizer)
    write_json(work.folder.parts / f"{name}.0.json", {"before": spent})
    for key, target in config.targets.items():
        known = dataset.known(held_out, key)
        mine, truth = held_out[known], dataset.tensors[key][held_out[known]]
        made = tables.make(name, 0, mine, dataset.names, target, truth, outputs[key][known])
        write_table(part_of(work, name, 0, key), made)


def _metric(config: ModelConfig) -> str:
    return USUAL[next(iter(config.targets.values())).task][0]


def _score(work: Work, held_out: Tensor, config: ModelConfig, outputs: dict[str, Tensor]) -> float | None:
    """The usual first metric of the first target, of the rows that are held out; None where there are none."""
    key, target = next(iter(config.targets.items()))
    known = work.dataset.known(held_out, key)
    if not known.any() or target.task not in _SCORED:
        return None
    truth = work.dataset.tensors[key][held_out[known]].numpy()
    return float(metric(_metric(config), task=target.task)(truth, answers(target, outputs[key][known])))
