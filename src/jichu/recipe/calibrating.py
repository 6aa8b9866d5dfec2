"""The last step of a fit: probabilities made as sure as they are right."""

from __future__ import annotations

from dataclasses import replace

from jichu.auditing.asking import ask
from jichu.core.progress import say
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.metrics.calibration import temperature
from jichu.models.model import Model

from .build import Work
from .config import SupervisedStage

_FEWEST, _MOST = 100, 10_000  # labelled validation rows that a temperature is fitted on


def calibrated(
    model: Model, targets: dict[str, Target], stage: SupervisedStage, work: Work
) -> dict[str, Target]:
    """The targets, those of classes with the temperature that fits the labelled validation rows best (Guo et al., 2017,
    arXiv 1706.04599); it is 1 where these are too few, or it is not wanted."""
    plain = {key: replace(target, temperature=1.0) for key, target in targets.items()}
    dataset = work.dataset
    if not stage.calibrate or "validation" not in dataset.splits:
        return plain
    rows = evenly(dataset.labelled("validation"), _MOST)
    known = {
        key: dataset.known(rows, key) for key, target in plain.items() if target.task == "classification"
    }
    known = {key: there for key, there in known.items() if there.sum() >= _FEWEST}
    scores = ask(model, {key: plain[key] for key in known}, dataset.inputs, rows) if known else {}
    for key, there in known.items():
        truth = dataset.tensors[key][rows[there]].numpy()
        _, value = temperature(truth, scores[key][there.numpy()])
        say(f"  {stage.name}: {plain[key].column} has a temperature of {value:.2f}")
        plain[key] = replace(plain[key], temperature=value)
    return plain
