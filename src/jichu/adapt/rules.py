"""Adaptation as an ordered list of (pattern, rule): the first pattern that matches a parameter's name
decides. Full fine-tuning, a linear probe, discriminative rates and LoRA are lists, not mechanisms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from jichu.core.errors import UsageError, nearest, shown, unknown
from jichu.models.adapters import layers

from . import depth


@dataclass(frozen=True)
class Lora:
    """The weight W of a dense layer stays, and alpha / rank · BA is learned beside it, B [out, rank] and A
    [rank, in] (Hu et al., 2021, arXiv 2106.09685). `alpha` is twice the rank where it is not given; `dropout`
    is that of A's inputs. With `dora` the columns' norms are learned by themselves (Liu et al., 2024, arXiv
    2402.09353)."""

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    dora: bool = False


# frozen, a factor on the learning rate, a function from progress (0 to 1) to such a factor, or adapters
Rule = Literal["frozen"] | float | Callable[[float], float] | Lora
Rules = list[tuple[str, Rule]]

# A pooler lies between backbone and head, and after pretraining is as fresh as the head. There may be neither.
_FRESH = r"(heads|backbone\.pooler)\..*"
# Queries and values, as in the paper, by the names of BERT, ViT, DistilBERT, GPT-2, Llama and T5.
_ATTENTION = r"backbone\..*\.(query|value|q_lin|v_lin|c_attn|q_proj|v_proj|q|v)\.weight"
PRESETS: dict[str, Rules] = {
    "full": [(r".*", 1.0)],
    "head": [(_FRESH, 1.0), (r".*", "frozen")],
    "discriminative": [(_FRESH, 1.0), (r".*", 0.1)],
}
LOW_RANK = {"lora": Lora(8), "dora": Lora(8, dora=True)}
NAMES = [*PRESETS, *LOW_RANK, "gradual", "last-2"]


_LAST = re.compile(r"last-(\d{1,6})")


def refuse_unknown(name: str) -> None:
    """UsageError where no preset is called so."""
    if name not in NAMES and not _LAST.fullmatch(name):
        raise unknown("adaptation", name, NAMES, where="adapt")


def resolve(adapt: str | Rules, model: nn.Module) -> Rules:
    """A preset by name, or the list itself with each rule checked."""
    if isinstance(adapt, str):
        refuse_unknown(adapt)
        if adapt in PRESETS:
            return PRESETS[adapt]
        if adapt in LOW_RANK:
            return [(_FRESH, 1.0), (_adapted(model), LOW_RANK[adapt]), (r".*", "frozen")]
        count = _LAST.fullmatch(adapt)
        return [(_FRESH, 1.0), *(depth.last(int(count[1]), model) if count else depth.gradual(model))]
    rules = [(pattern, _checked(rule, pattern)) for pattern, rule in adapt]
    for pattern, _ in rules:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern!r} is not a regular expression: {error}", where="adapt") from None
    return rules


def _adapted(model: nn.Module) -> str:
    """A pattern for the weights that get adapters if nothing else is said: of queries and values where there is
    attention, else of every layer of the backbone that can have them. UsageError where there is none."""
    fit = [name for name in layers(model) if name.startswith("backbone.")]
    if any(re.fullmatch(_ATTENTION, name) for name in fit):
        return _ATTENTION
    if not fit:
        raise UsageError(
            "LoRA, and this backbone has no dense layer and no convolution to have adapters", where="adapt",
            expected=f"one of {', '.join(name for name in NAMES if name not in LOW_RANK)}",
        )  # fmt: skip
    return "|".join(map(re.escape, fit))


def _checked(rule: Any, pattern: str) -> Rule:
    """A rule as it is used; `{lora: 8}` in a recipe is `Lora(8)`."""
    if isinstance(rule, dict) and "lora" in rule:
        more = {key: value for key, value in rule.items() if key != "lora"}
        if other := set(more) - {"alpha", "dropout", "dora"}:
            raise unknown(
                "key of lora", str(min(other, key=str)), ("alpha", "dropout", "dora"), where="adapt"
            )
        rule = Lora(rule["lora"], **more)
    if isinstance(rule, Lora):
        numbers = rule.alpha is None or (_number(rule.alpha) and rule.alpha > 0)
        whole = isinstance(rule.rank, int) and not isinstance(rule.rank, bool) and rule.rank >= 1
        share = _number(rule.dropout) and 0 <= rule.dropout < 1
        if not (whole and numbers and share and isinstance(rule.dora, bool)):
            raise UsageError(
                f"rule {shown(rule)} for {pattern!r}", where="adapt",
                expected="{lora: rank, alpha: a number, dropout: a share, dora: true}, such as {lora: 8}",
            )  # fmt: skip
        return rule
    if not (rule == "frozen" or callable(rule) or (_number(rule) and rule > 0)):
        raise UsageError(
            f"rule {rule!r} for {pattern!r}",
            where="adapt",
            expected="frozen, a factor above zero, or {lora: rank}",
        )
    return rule


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


_ADAPTER = re.compile(r"\.lora_(?:A|B|magnitude_vector)\.[^.]+")


def original(name: str) -> str:
    """What a parameter was called before adapters came to stand beside it; of an adapter, the weight's."""
    return _ADAPTER.sub("", name).replace(".base_layer.", ".")


def assign(model: nn.Module, rules: Rules) -> dict[str, Rule]:
    """The rule of every parameter, by its original name. Where there are adapters they are trained, and all
    else that a LoRA rule covers is frozen. UsageError where a parameter matches no pattern, or a pattern
    matches none."""
    names = {name: original(name) for name, _ in model.named_parameters()}
    adapted = {name for name in names if _ADAPTER.search(name)}
    assigned: dict[str, Rule] = {}
    used = set()
    for name, called in names.items():
        for pattern, rule in rules:
            if re.fullmatch(pattern, called):
                if isinstance(rule, Lora) and adapted:
                    rule = 1.0 if name in adapted else "frozen"
                assigned[name] = rule
                used.add(pattern)
                break
        else:
            raise UsageError(
                f"no pattern matches the parameter {called}",
                where="adapt", expected="patterns that cover every parameter; end with ['.*', …]",
            )  # fmt: skip
    for pattern, _ in rules:
        if pattern not in used and pattern not in (".*", _FRESH) and names:
            raise _idle(pattern, list(names.values()))
    return assigned


def _idle(pattern: str, names: list[str]) -> UsageError:
    """The error for a pattern that decides nothing."""
    taken = [name for name in names if re.fullmatch(pattern, name)]
    if taken:
        return UsageError(
            f"the pattern {pattern!r} decides nothing: {taken[0]} and what else it matches is decided before it",
            where="adapt", expected="the narrower pattern first",
        )  # fmt: skip
    return UsageError(
        f"the pattern {pattern!r} decides nothing", where="adapt",
        expected=f"a pattern for names such as {', '.join(names[:3])}", nearest=nearest(pattern, names),
    )  # fmt: skip


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
