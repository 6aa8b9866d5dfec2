"""Optimizers: which parameters go together, and at which rate."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from jichu.adapt.rules import Rule
from jichu.core.errors import UsageError

from .config import OptimizerConfig
from .muon import Muon, matrices


def build(
    learner: nn.Module, assigned: dict[str, Rule], config: OptimizerConfig, precision: str = "float32"
) -> torch.optim.Optimizer:
    """One group for each rule and kind of parameter. Vectors (biases, normalisation) do not decay.
    `precision` is that of the matrix products an optimizer may need; its state is in the parameters' own."""
    spared = _spared(learner, config.no_decay)
    orthogonal = matrices(learner) if config.name == "muon" else set()
    groups: dict[tuple[Rule, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        rule = assigned.get(name.removeprefix("model."), 1.0) if name.startswith("model.") else 1.0
        if parameter.requires_grad:
            decays = config.weight_decay > 0 and parameter.ndim > 1 and name not in spared
            groups.setdefault((rule, decays, parameter in orthogonal), []).append(parameter)
    sets = [
        {"params": parameters, "rule": rule, "weight_decay": config.weight_decay * decays, "matrices": of}
        for (rule, decays, of), parameters in groups.items()
    ]
    momentum: dict[str, Any] = {"momentum": config.momentum}
    momentum["nesterov"] = config.nesterov and config.momentum > 0
    adam: dict[str, Any] = {"betas": tuple(config.betas), "eps": config.eps, "fused": True}
    if config.name == "sgd":
        return torch.optim.SGD(sets, config.lr, fused=True, **momentum)
    if config.name == "muon":
        return Muon(sets, config.lr, dtype=getattr(torch, precision), **momentum, **adam)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(sets, config.lr, **adam)


def slots(config: OptimizerConfig) -> int:
    """How many values are kept for each parameter, at most."""
    return 1 if config.name == "sgd" else 2


def _spared(learner: nn.Module, patterns: list[str]) -> set[str]:
    """The names of the parameters that a pattern matches, a model's as they are called in the model."""
    names = {name: name.removeprefix("model.") for name, _ in learner.named_parameters()}
    spared: set[str] = set()
    for pattern in patterns:
        try:
            found = {name for name, short in names.items() if re.fullmatch(pattern, short)}
        except re.error as error:
            raise UsageError(
                f"{pattern!r} is not a regular expression: {error}", where="optimizer.no_decay"
            ) from None
        if not found:
            raise UsageError(
                f"the pattern {pattern!r} matches no parameter", where="optimizer.no_decay",
                expected=f"a pattern for names such as {', '.join(list(names.values())[:3])}",
            )  # fmt: skip
        spared |= found
    return spared


def set_rates(optimizer: torch.optim.Optimizer, base: float, progress: float) -> None:
    """Set each group's rate from the base rate and its rule."""
    for group in optimizer.param_groups:
        rule = group["rule"]
        group["lr"] = base * (rule(progress) if callable(rule) else rule)
