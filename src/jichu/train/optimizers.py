"""Optimizers and learning-rate schedules as pure functions of progress."""

from __future__ import annotations

import math

import torch
from torch import nn

from jichu.adapt.rules import Rule
from jichu.core.errors import UsageError

from .config import OptimizerConfig, TrainConfig


def build(learner: nn.Module, assigned: dict[str, Rule], config: OptimizerConfig) -> torch.optim.Optimizer:
    """One group for each rule and kind of parameter. Vectors (biases, normalisation) do not decay."""
    groups: dict[tuple[Rule, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        rule = assigned.get(name.removeprefix("model."), 1.0) if name.startswith("model.") else 1.0
        if parameter.requires_grad:
            groups.setdefault((rule, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise UsageError("every parameter is frozen", where="adapt", expected="something to train")
    sets = [
        {"params": parameters, "rule": rule, "weight_decay": config.weight_decay * decays}
        for (rule, decays), parameters in groups.items()
    ]
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(sets, config.lr, config.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(sets, config.lr, fused=True)


def schedule(progress: float, config: TrainConfig) -> float:
    """The factor on the learning rate at a progress from 0 to 1: a linear rise, then the fall."""
    if progress < config.warmup:
        return progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    return 1 - rest if config.schedule == "linear" else 1.0


def set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int, config: TrainConfig) -> float:
    """Set each group's rate for the step (0-based) that comes; gives the base rate. Progress is taken
    in the middle of the step, so that neither the first nor the last rate is zero."""
    progress = (step + 0.5) / steps
    base = config.optimizer.lr * schedule(progress, config)
    for group in optimizer.param_groups:
        rule = group["rule"]
        group["lr"] = base * (rule(progress) if callable(rule) else rule)
    return base
