"""A model fitted to rows with labels: by fine-tuning, and after it was made smaller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from jichu.adapt import rules
from jichu.compression.base import Step
from jichu.compression.steps import beside
from jichu.core.errors import UsageError
from jichu.core.progress import clock, say
from jichu.data.batches import Batches, MixedBatches, gather
from jichu.data.poisson import PoissonBatches
from jichu.data.schema import LABEL, WEIGHT
from jichu.models.heads import HeadsAlone
from jichu.models.model import Model
from jichu.objectives.base import Objective, as_terms
from jichu.objectives.ruled import Ruled
from jichu.train.fit import fit
from jichu.train.fitted import Fitted
from jichu.train.predict import embed_fast, predict

from .build import Work, adaptation, spaced
from .config import FinetuneStage, SupervisedStage
from .wrapping import wrapped

_LARGE = ("image", "audio", "series", "tokens")  # what networks look at and objectives do not


def train(
    model: Model,
    supervised: Objective,
    stage: SupervisedStage,
    rows: Tensor,
    work: Work,
    name: str,
    kept: bool = True,
    steps: list[Step] = [],  # noqa: B006 (read only)
) -> Fitted:
    """Fit a model to rows with labels, as a stage says, `steps` of a compression going along. Not `kept`, it leaves
    nothing in the run folder."""
    dataset, objective = work.dataset, wrapped(stage, supervised, work, rows)
    if isinstance(stage, FinetuneStage):
        adapt = adaptation(stage)
    else:
        objective, adapt = beside(objective, steps)
    tensors: dict[str, Tensor] = dataset.tensors
    trained: nn.Module = model
    validation = dataset.labelled("validation") if "validation" in dataset.splits else rows[:0]
    alone = dataset.series is None  # else heads look at more of the features than their pool
    plain = objective is supervised or isinstance(objective, Ruled)  # asks for features alone
    if alone and plain and _only_heads_learn(model, adapt):
        tensors = _features(model, work, torch.cat([rows, validation]), stage)
        trained = HeadsAlone(model)
    evaluate = _evaluation(supervised, tensors, validation) if len(validation) else None
    order: dict[str, Any] = {"batch_size": stage.batch_size, "seed": work.recipe.seed}
    order["lengths"] = getattr(tensors.get("tokens"), "lengths", None)
    if stage.privacy is not None:
        if objective.unlabelled:
            raise UsageError(
                "private training has no rows without label",
                where=f"{stage.name}.wrap",
                expected="none of these",
            )
        batches: Batches = PoissonBatches(tensors, rows, secret=stage.privacy.secret, **order)
    elif ratio := objective.unlabelled:
        batches = MixedBatches(dataset.with_labels_of(rows), rows, dataset.others(rows), ratio, **order)
    else:
        batches = Batches(tensors, rows, **order)
    stage = spaced(stage, len(batches), len(rows) * (1 + objective.unlabelled), len(validation))
    return fit(trained, objective, batches, stage, adapt=adapt, evaluate=evaluate, monitor=stage.monitor,
               seed=work.recipe.seed, folder=work.folder if kept else None, name=name,
               resume=work.resume and kept, records=dataset.names)  # fmt: skip


def _only_heads_learn(model: Model, adapt: Any) -> bool:
    assigned = rules.assign(model, rules.resolve(adapt, model))
    body = [rule for name, rule in assigned.items() if not name.startswith("heads.")]
    return bool(body) and all(rule == "frozen" for rule in body)


def _features(model: Model, work: Work, rows: Tensor, stage: SupervisedStage) -> dict[str, Tensor]:
    """The targets with the backbone's features [N, D] in the place of the inputs, computed once; of other
    rows than these, nothing."""
    started = time.monotonic()
    say(f"  {stage.name}: the backbone is frozen; its features are computed once")
    found, settings = embed_fast(model, work.dataset.inputs, rows, stage)
    took = time.monotonic() - started
    say(f"  {len(rows):,} rows in {clock(took)}, {len(rows) / took:,.0f} a second, {settings}")
    features = torch.zeros(len(work.dataset), found.shape[1])
    features[rows] = found
    kept = {n: t for n, t in work.dataset.tensors.items() if n in work.dataset.targets or n == WEIGHT}
    return {**kept, "features": features}


def _evaluation(
    objective: Objective, tensors: dict[str, Tensor], rows: Tensor
) -> Callable[[nn.Module], dict[str, float]]:
    """The objective's own loss on rows held out from training, and what it finds worth a look."""
    # all but what the network looks at, which may be large
    batch = gather({name: t for name, t in tensors.items() if name not in _LARGE}, rows)

    def evaluate(model: nn.Module) -> dict[str, float]:
        heads = list(model.heads) if isinstance(model.heads, nn.ModuleDict) else [LABEL]
        found = predict(model, tensors, rows, heads)
        outputs = objective.forward(cast(Any, lambda batch: found), batch)  # in the form that its losses take
        weights, scales = objective.weights(batch), objective.scales()
        terms = as_terms(objective.losses(outputs, batch))
        means = {
            name: term if term.ndim == 0
            else (weights[name] * term).sum() / weights[name].sum().clamp(min=1e-12)
            for name, term in terms.items()
        }  # fmt: skip
        loss = sum(scales.get(name, 1.0) * mean for name, mean in means.items())
        told = objective.diagnose(outputs, batch)
        named = {n.replace("train_", "validation_"): float(v) for n, v in told.items()}
        return {"validation_loss": float(loss), **named}

    return evaluate
