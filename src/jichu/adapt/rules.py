"""Adaptation as an ordered list of (pattern, rule): the first pattern that matches a parameter's name
decides. Full fine-tuning, a linear probe and discriminative rates are lists, not mechanisms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

from jichu.core.errors import UsageError, unknown

# frozen, a factor on the learning rate, or a function from progress (0 to 1) to such a factor
Rule = Literal["frozen"] | float | Callable[[float], float]
Rules = list[tuple[str, Rule]]

PRESETS: dict[str, Rules] = {
    "full": [(r".*", 1.0)],
    "head": [(r"heads\..*", 1.0), (r".*", "frozen")],
    "discriminative": [(r"heads\..*", 1.0), (r".*", 0.1)],
}


def resolve(adapt: str | Rules) -> Rules:
    """A preset by name, or the list itself with each rule checked."""
    if isinstance(adapt, str):
        if adapt not in PRESETS:
            raise unknown("adaptation", adapt, PRESETS, where="adapt")
        return PRESETS[adapt]
    for pattern, rule in adapt:
        if not (rule == "frozen" or callable(rule) or (isinstance(rule, (int, float)) and rule > 0)):
            raise UsageError(
                f"rule {rule!r} for {pattern!r}", where="adapt", expected="frozen, or a factor above zero"
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern!r} is not a regular expression: {error}", where="adapt") from None
    return adapt


def assign(model: nn.Module, rules: Rules) -> dict[str, Rule]:
    """The rule of every parameter. UsageError where one matches no pattern, or a pattern matches none."""
    names = [name for name, _ in model.named_parameters()]
    assigned: dict[str, Rule] = {}
    used = set()
    for name in names:
        for pattern, rule in rules:
            if re.fullmatch(pattern, name):
                assigned[name] = rule
                used.add(pattern)
                break
        else:
            raise UsageError(
                f"no pattern matches the parameter {name}",
                where="adapt", expected="patterns that cover every parameter; end with ['.*', …]",
            )  # fmt: skip
    for pattern, _ in rules:
        if pattern not in used and pattern != ".*" and names:
            raise UsageError(
                f"the pattern {pattern!r} decides nothing",
                where="adapt", expected=f"a pattern for names such as {', '.join(names[:3])}",
            )  # fmt: skip
    return assigned


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The outermost modules all of whose parameters (at least one) are frozen."""
    parameters = list(model.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        return [model]
    return [module for child in model.children() for module in frozen_modules(child)]


@contextmanager
def applied(model: nn.Module, assigned: dict[str, Rule]) -> Iterator[list[nn.Module]]:
    """Freeze while the block runs, beside what is frozen already; gradient flags and modes are left as
    found. Gives the modules that must stay in evaluation mode, so that their buffers (batch statistics)
    do not move."""
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {module: module.training for module in model.modules()}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name] and assigned[name] != "frozen")
        yield frozen_modules(model)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
        for module, training in modes.items():
            module.training = training
