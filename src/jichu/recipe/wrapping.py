"""What goes around the objective of a stage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from jichu.core.config import Spec
from jichu.core.errors import UsageError, unknown
from jichu.core.names import construct, resolve
from jichu.data.decode import Preprocess
from jichu.data.schema import LABEL
from jichu.data.tokenizer import Tokenizer
from jichu.models.folder import ModelConfig, read_config
from jichu.objectives import OBJECTIVES
from jichu.objectives.base import Objective
from jichu.objectives.distillation import class_order
from jichu.objectives.fixmatch import FixMatch
from jichu.objectives.ruled import Ruled
from jichu.objectives.wrapper import Augmented, Wrapper

from .build import KINDS, Work, augmenter, locate, refuse_other_inputs, spread
from .config import SupervisedStage


def wrappers(kind: str | None = None) -> list[str]:
    """The names of the objectives that go around another, or of those among them that are for a kind of data."""
    made = {name: resolve("objective", name, OBJECTIVES) for name in OBJECTIVES}
    around = {name: cls for name, cls in made.items() if isinstance(cls, type) and issubclass(cls, Wrapper)}
    return [name for name, cls in around.items() if kind is None or kind in (cls.kinds or (kind,))]


def wrapped(stage: SupervisedStage, supervised: Objective, work: Work, rows: Tensor) -> Objective:
    """The objective with the penalties of rules around it, then augmentation, and then what the stage names, the last one
    outermost, to learn from some rows. UsageError where one does not fit the data or the others."""
    augment, where = augmenter(stage, work.dataset), f"{stage.name}.wrap"
    objective = _ruled(supervised, work, rows)
    objective = objective if augment is None else Augmented(objective, augment)
    given: dict[str, Any] = {"targets": work.dataset.targets}
    given["spread"] = spread(work.dataset) if stage.wrap else None
    for spec in stage.wrap:
        _refuse_other_kind(spec, work, where)
        if "teacher" in spec.arguments:
            teacher = _teacher(str(spec.arguments["teacher"]), stage, work)
            spec = Spec(name=spec.name, **{**spec.arguments, "teacher": str(teacher)})
        objective = construct("objective", spec, OBJECTIVES, where=where, inner=objective, **given)()
        _refuse_weak(objective, work, where)
    if objective.unlabelled and not objective.independent:
        raise UsageError(
            "rows without label go with nothing that mixes or compares the rows of a batch", where=where,
            expected="no mixup or cutmix beside it",
        )  # fmt: skip
    return objective


def _ruled(supervised: Objective, work: Work, rows: Tensor) -> Objective:
    if not any(rule.penalty for rule in work.recipe.rules):
        return supervised
    rules, about = work.rules(), work.dataset.about_targets(rows)
    targets = {key: supervised.answer(key, target) for key, target in about.items()}
    return Ruled(supervised, rules, rules.of_rows(work.dataset), targets)


def _refuse_other_kind(spec: Spec, work: Work, where: str) -> None:
    kinds, kind = getattr(resolve("objective", spec.name, OBJECTIVES), "kinds", ()), work.dataset.kind
    if kinds and kind not in kinds:
        raise UsageError(
            f"{spec.name} is for {' and '.join(KINDS[k] for k in kinds)}, and these are {KINDS[kind]}", where=where,
            expected=f"one of {', '.join(wrappers(kind))}",
        )  # fmt: skip


def _refuse_weak(objective: Objective, work: Work, where: str) -> None:
    """A strong view that is none."""
    if isinstance(objective, FixMatch) and not objective.strong.changes(work.dataset.kind):
        ways = {"table": "table: {swap: 0.3, mask: 0.1}", "audio": "audio: {times: 2, bands: 2}"}
        raise UsageError(
            "strong changes nothing of these rows", where=f"{where}.strong",
            expected=ways.get(work.dataset.kind, "policy, erase, …"),
        )  # fmt: skip


def _teacher(name: str, stage: SupervisedStage, work: Work) -> Path:
    """The folder of a model that reads these data and tells these classes: of a run, or of an earlier stage, which may
    have yet to run."""
    where, stages = f"{stage.name}.wrap.teacher", work.recipe.stages
    earlier = [
        s.name for s in stages[: [s.name for s in stages].index(stage.name)] if isinstance(s, SupervisedStage)
    ]
    if name in earlier:
        folder = getattr(work, "folder", None)
        return locate(name, folder) if folder else Path(name)
    try:
        found = locate(name)
    except UsageError:
        if "/" not in name and earlier:
            raise unknown("earlier finetune stage or run folder", name, earlier, where=where) from None
        raise UsageError(
            f"no model in {name}", where=where, expected="a run folder, or an earlier stage"
        ) from None
    config = read_config(found)
    refuse_other_inputs(config, work.dataset, name)
    _refuse_other_reading(config, found, work, where)
    class_order(config.targets.get(LABEL), work.dataset.targets.get(LABEL))
    return found


def _refuse_other_reading(config: ModelConfig, found: Path, work: Work, where: str) -> None:
    """The same images in another size, the same texts in other tokens."""
    image, text, these = config.image, config.text, work.dataset.preprocess
    if image and isinstance(these, Preprocess) and config.scaled is None and image.size != these.size:
        raise UsageError(
            f"the teacher takes images of {image.size} pixels, these have {these.size}",
            where=where, expected=f"data.size: {image.size}",
        )  # fmt: skip
    if not text or not work.text or not work.tokenizer:
        return
    if Tokenizer.load(found).fingerprint != work.tokenizer.fingerprint:
        folder = os.path.join(".", found)
        raise UsageError("the teacher has other tokens", where=where, expected=f"data.tokenizer: {folder}")
    if work.text.context > text.context or work.text.windows > text.windows:
        raise UsageError(
            f"the teacher is given {text.context} tokens in {text.windows} windows at most", where=where,
            expected=f"data.context: {text.context}, data.windows: {text.windows}",
        )  # fmt: skip
