"""Contract suites: what every objective and every backbone must do, ours or a user's own."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jichu.core.config import Spec
from jichu.core.errors import CheckFailed
from jichu.core.folder import RunFolder
from jichu.core.randomness import guarded, seed_step
from jichu.models.backbone import Features
from jichu.objectives.base import Batch, Context, Objective, as_terms

from .config import OptimizerConfig, TrainConfig
from .fit import fit
from .learner import Learner, backward, cut, total_weights
from .settings import autocast

_CPU = torch.device("cpu")
_BATCH_STATISTICS = (nn.modules.batchnorm._BatchNorm,)


def _require(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise CheckFailed(what, expected=expected)


def check_objective(objective: Objective, model: nn.Module, batch: Batch, *, overfits: bool = True) -> None:
    """Run an objective through its contract on copies of a model and a batch of at least 8 rows.

    Finite losses for each row; weights that are not negative and known from the batch; gradients to
    every trainable parameter; k micro-batches equal one, and the order of rows does not matter (where
    it says `independent` and the model has no batch statistics); a falling loss on 8 rows; the same
    weights, bit for bit, after a resume; mode, gradient flags and hooks left as found. Raises CheckFailed.
    """
    name = type(objective).__name__
    _require(len(batch["row"]) >= 8, f"a batch of {len(batch['row'])} rows", "at least 8")
    objective, model = copy.deepcopy(objective), copy.deepcopy(model).train()
    with guarded(_CPU):
        seed_step(_CPU, "check")
        objective.bind(model, batch)
    learner = Learner(model, objective)
    context = Context(0, 3, 10)
    _check_losses(name, learner, batch, context)
    _check_gradients(name, learner, batch, context)
    statistics = any(isinstance(m, _BATCH_STATISTICS) for m in learner.modules())
    if objective.independent and not statistics:
        _check_exact(name, learner, batch, context)
    if overfits:
        _check_overfits(name, learner, batch)
    _check_resume(name, learner, batch)
    _check_left_as_found(name, learner, batch)


def _gradients(learner: Learner, batch: Batch, context: Context, parts: int) -> dict[str, Tensor]:
    """Gradients of one step on a copy, the process's own randomness (dropout) switched off."""
    learner = copy.deepcopy(learner)
    for module in learner.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    micro = [learner.objective.prepare(part, context) for part in cut(batch, parts)]
    totals, _ = total_weights(learner.objective, micro, False)
    with guarded(_CPU):
        seed_step(_CPU, "check")
        backward(learner, micro, totals, lambda: autocast("float32", _CPU))
    return {n: p.grad for n, p in learner.named_parameters() if p.grad is not None}


def _check_losses(name: str, learner: Learner, batch: Batch, context: Context) -> None:
    rows = len(batch["row"])
    prepared = learner.objective.prepare(batch, context)
    weights = learner.objective.weights(prepared)
    with torch.no_grad():
        terms = as_terms(copy.deepcopy(learner)(prepared, {n: w.sum() for n, w in weights.items()}, 1)[1])
        outputs = copy.deepcopy(learner).objective(copy.deepcopy(learner.model), prepared)
        losses = as_terms(learner.objective.losses(outputs, prepared))
    for term, loss in losses.items():
        _require(
            loss.ndim <= 1,
            f"{name}: the term {term!r} has shape {list(loss.shape)}",
            f"[{rows}], or a scalar",
        )
        _require(
            loss.ndim == 0 or term in weights,
            f"{name}: no weight for the term {term!r}",
            f"weights() to name it beside {list(weights)}",
        )
        _require(
            bool(torch.isfinite(loss).all()), f"{name}: the term {term!r} is not finite", "finite numbers"
        )
        if loss.ndim:
            weight = weights[term]
            _require(
                loss.shape == weight.shape,
                f"{name}: {list(loss.shape)} losses of the term {term!r}",
                f"one for each of its {len(weight)} weights",
            )
            _require(
                bool((weight >= 0).all()),
                f"{name}: a weight of the term {term!r} is negative",
                "weights of zero or more",
            )
    _require(set(terms) == set(losses), f"{name}: terms {list(terms)}", f"{list(losses)}")


def _check_gradients(name: str, learner: Learner, batch: Batch, context: Context) -> None:
    found = _gradients(learner, batch, context, 1)
    for parameter, tensor in learner.named_parameters():
        if tensor.requires_grad:
            _require(
                parameter in found,
                f"{name}: no gradient reaches {parameter}",
                "a gradient, or requires_grad False",
            )
            _require(
                bool(torch.isfinite(found[parameter]).all()),
                f"{name}: the gradient of {parameter} is not finite",
                "finite numbers",
            )


def _check_exact(name: str, learner: Learner, batch: Batch, context: Context) -> None:
    whole = _gradients(learner, batch, context, 1)
    rows = len(batch["row"])
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    shuffled = {k: v[order] if len(v) == rows else v for k, v in batch.items()}
    for what, other in (
        ("3 micro-batches", _gradients(learner, batch, context, 3)),
        ("another order of the rows", _gradients(learner, shuffled, context, 1)),
    ):
        for parameter, gradient in whole.items():
            close = torch.allclose(
                gradient, other[parameter], rtol=1e-3, atol=1e-5 * (1 + float(gradient.abs().max()))
            )
            _require(
                close,
                f"{name}: {what} change the gradient of {parameter}",
                "the same up to rounding, or independent = False",
            )


def _check_overfits(name: str, learner: Learner, batch: Batch) -> None:
    rows = len(batch["row"])
    few = {k: v[:8] if len(v) == rows else v for k, v in batch.items()}
    config = TrainConfig(
        budget="60 steps", optimizer=OptimizerConfig(lr=3e-3), schedule=Spec(name="constant"), warmup=0.0, log_every=1,
        precision="float32", device="cpu", batch_size=8,
    )  # fmt: skip
    one = copy.deepcopy(learner)
    losses = [row["loss"] for row in fit(one.model, one.objective, [few], config).history]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    _require(
        last < first,
        f"{name}: the loss on 8 rows went from {first:.4g} to {last:.4g} in 60 steps",
        "a falling loss",
    )


class _Stopped(Exception):
    """What the resume check raises in the middle of a training."""


def _check_resume(name: str, learner: Learner, batch: Batch) -> None:
    """Stopped after 3 of 6 steps and gone on with, a training ends where an undisturbed one does."""
    config = TrainConfig(
        budget="6 steps", precision="float32", device="cpu", batch_size=len(batch["row"]), checkpoint_every="1 steps"
    )  # fmt: skip

    class StopsOnce(list[Batch]):
        def __iter__(self) -> Any:
            yield from [batch] * 4  # one more than it gets to use: the loop looks ahead
            raise _Stopped

    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(path)
        whole, half, rest = (copy.deepcopy(learner) for _ in range(3))
        fit(whole.model, whole.objective, [batch], config)
        with contextlib.suppress(_Stopped):
            fit(half.model, half.objective, StopsOnce(), config, folder=folder)
        fit(rest.model, rest.objective, [batch], config, folder=folder, resume=True)
    pairs = zip(whole.state_dict().items(), rest.state_dict().values(), strict=True)
    for (parameter, a), b in pairs:
        _require(
            torch.equal(a, b),
            f"{name}: a resumed training differs in {parameter}",
            "randomness from the context alone, all state in buffers",
        )


def _check_left_as_found(name: str, learner: Learner, batch: Batch) -> None:
    model = learner.model
    before = _condition(model)
    config = TrainConfig(budget="1 steps", precision="float32", device="cpu", batch_size=len(batch["row"]))
    fit(model, learner.objective, [batch], config)
    _require(
        _condition(model) == before, f"{name}: leaves modes, gradient flags or hooks changed", "them as found"
    )


def _condition(model: nn.Module) -> Any:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return (
        [(n, m.training, *(len(getattr(m, h)) for h in hooks)) for n, m in model.named_modules()],
        [(n, p.requires_grad) for n, p in model.named_parameters()],
    )


def check_backbone(backbone: nn.Module | Callable[[], nn.Module], batch: Batch) -> None:
    """Run a backbone through its contract on a batch of at least 2 rows.

    Features with pooled [B, width], finite; maps [B, D, H, W] and sequence [B, T, D] where given; a
    gradient for every trainable parameter; in evaluation mode rows that do not depend on each other;
    a state dict that restores the outputs. Raises CheckFailed.
    """
    backbone = backbone if isinstance(backbone, nn.Module) else backbone()
    name, rows = type(backbone).__name__, len(batch["row"])
    copied = copy.deepcopy(backbone).eval()
    inputs = {k: v.float() / 255 if v.dtype == torch.uint8 else v for k, v in batch.items()}
    with torch.no_grad():
        out = copied(inputs)
        _require(isinstance(out, Features), f"{name} gave {type(out).__name__}", "Features")
        width = getattr(backbone, "width", None)
        _require(
            list(out.pooled.shape) == [rows, width],
            f"{name}: pooled is {list(out.pooled.shape)}",
            f"[{rows}, width={width}]",
        )
        for part, dims in (("maps", 4), ("sequence", 3)):
            tensor = getattr(out, part)
            fits = tensor is None or (tensor.ndim == dims and len(tensor) == rows)
            _require(
                fits,
                f"{name}: {part} is {None if tensor is None else list(tensor.shape)}",
                f"{dims} dimensions, {rows} rows",
            )
        _require(bool(torch.isfinite(out.pooled).all()), f"{name}: features are not finite", "finite numbers")
        alone = copied({k: v[:1] if len(v) == rows else v for k, v in inputs.items()}).pooled
        _require(
            torch.allclose(alone, out.pooled[:1], rtol=1e-3, atol=1e-4),
            f"{name}: a row's features depend on its batch",
            "rows apart in evaluation mode",
        )
        again = copy.deepcopy(backbone).eval()
        again.load_state_dict(copied.state_dict())
        _require(
            torch.equal(again(inputs).pooled, out.pooled),
            f"{name}: its state dict does not restore it",
            "the same outputs",
        )
    training = copy.deepcopy(backbone).train()
    pooled = training(inputs).pooled
    if pooled.requires_grad:
        pooled.square().sum().backward()
    for parameter, tensor in training.named_parameters():
        if tensor.requires_grad:
            _require(
                tensor.grad is not None,
                f"{name}: no gradient reaches {parameter}",
                "a gradient, or requires_grad False",
            )
