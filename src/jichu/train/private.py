"""Differentially private training (DP-SGD: Abadi et al., 2016, arXiv 1607.00133): each row's gradient is cut to a length, and
noise is added to their sum, so that hardly anything can be told of a single row from the weights. Gradients by row and the
accountant are Opacus'."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from jichu.core.errors import UsageError, missing_extra
from jichu.core.randomness import generator
from jichu.data.poisson import PoissonBatches
from jichu.objectives.adversarial import Attacked
from jichu.objectives.base import Batch, Objective

from .config import PrivacyConfig
from .learner import Learner, cut

_AT_ONCE = 2**30  # bytes of gradients by row that are kept together
_TINY = 1e-6
_MOST_NOISE = 200.0  # of which no network learns


class Private:
    """Gradients with noise for one training, and what they cost."""

    def __init__(self, config: PrivacyConfig, batches: Any, learner: Learner, steps: int):
        if not isinstance(batches, PoissonBatches):
            raise UsageError(
                "private training wants rows that are drawn by chance",
                where="privacy",
                expected="PoissonBatches",
            )
        rows = len(batches.rows)
        if config.delta >= 1 / rows:
            raise UsageError(
                f"a delta of {config.delta:g} lets whole rows be told among {rows:,}", where="privacy.delta",
                expected=f"less than {1 / rows:.1g}",
            )  # fmt: skip
        refuse_shared(learner.model, learner.objective)
        self.config, self.batches, self.learner = config, batches, learner
        self.parameters = [p for p in learner.parameters() if p.requires_grad]
        self.noise = noise_for(config, batches.rate, steps)
        size = 4 * sum(p.numel() for p in self.parameters)
        self.at_once = max(1, _AT_ONCE // size)  # rows
        self._hooks = _opacus("grad_sample").GradSampleHooks(learner, strict=False, loss_reduction="sum")
        self._hooks.disable_hooks()

    def gradients(
        self, batch: Batch, prepare: Callable[[Batch], Batch], autocast: Any, step: int, *, diagnose: bool,
        lap: Callable[[str], None],
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
        """Leaves the noisy mean of the cut gradients in the parameters. Gives what `backward` gives, without noise."""
        rows = len(batch["row"])
        sums = [torch.zeros_like(p) for p in self.parameters]
        loss, found = torch.zeros(()), dict[str, Tensor]()
        shares: dict[str, Tensor] = {}
        for part in cut(batch, -(-rows // self.at_once)) if rows else []:
            ready = prepare(part)
            ones = {name: torch.ones(()) for name in self.learner.objective.weights(ready)}
            lap("data")
            with self._by_row():
                with autocast():
                    one, terms, _, found = self.learner(ready, ones, 1, diagnose)
                lap("forward")
                one.backward()
            self._add(sums, len(part["row"]))
            lap("backward")
            loss = loss + one.detach() / rows
            shares = {name: shares.get(name, 0.0) + term / rows for name, term in terms.items()}
        draw = generator("noise", self.batches.secret, step)
        for parameter, total in zip(self.parameters, sums, strict=True):
            noise = torch.randn(total.shape, generator=draw).to(total)
            parameter.grad = (total + self.noise * self.config.clip * noise) / self.batches.batch_size
        return loss, shares, found

    @contextmanager
    def _by_row(self) -> Iterator[None]:
        """Backward passes leave the gradients of each row."""
        self._hooks.enable_hooks()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Full backward hook")  # the first layer's inputs are data
                yield
        finally:
            self._hooks.disable_hooks()

    def _add(self, sums: list[Tensor], rows: int) -> None:
        """Each row's gradients, cut, to the sums."""
        by_row = []
        for parameter in self.parameters:
            found = cast(Any, parameter).grad_sample
            if isinstance(found, list):  # used more than once
                found = torch.stack(found).sum(0)
            if found is not None and len(found) != rows:
                raise UsageError(
                    f"a layer's gradient is of {len(found)} rows and not of {rows}: it is asked the same for all rows, as"
                    " positions are", where="privacy", expected="adapt: lora, or that layer frozen",
                )  # fmt: skip
            by_row.append(found)
            cast(Any, parameter).grad_sample = None
            parameter.grad = None
        known = [g for g in by_row if g is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in known]).norm(dim=0)
        share = (self.config.clip / (norms + _TINY)).clamp(max=1)
        whole = norms.isfinite()  # a row without a gradient that is a number has no part
        for total, gradient in zip(sums, by_row, strict=True):
            if gradient is not None:
                total += torch.einsum("n,n...->...", share[whole], gradient[whole])

    def close(self, steps: int) -> dict[str, float]:
        """What so many steps have told at most. The modules are as they were."""
        self._hooks.remove_hooks()
        for parameter in self.learner.parameters():
            for name in ("grad_sample", "_forward_counter", "_current_grad_sample"):
                if hasattr(parameter, name):
                    delattr(parameter, name)
        return {
            "epsilon": epsilon_of(self.noise, self.batches.rate, steps, self.config.delta) if steps else 0.0,
            "delta": self.config.delta, "noise": self.noise, "clip": self.config.clip, "rate": self.batches.rate,
        }  # fmt: skip


def refuse_shared(model: nn.Module, objective: Objective) -> None:
    """UsageError where a row's gradient depends on other rows, or cannot be had."""
    if not objective.independent:
        raise UsageError(
            f"{type(objective).__name__} compares the rows of a batch, and private training looks at each by itself",
            where="privacy", expected="an objective of single rows, without mixup or cutmix",
        )  # fmt: skip
    if any(isinstance(module, Attacked) for module in objective.modules()):
        raise UsageError(
            "adversarial training asks for gradients of its own, beside those by row", where="privacy",
            expected="one of both",
        )  # fmt: skip
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise UsageError(
                f"{name} takes statistics over the rows of a batch", where="privacy",
                expected="a backbone with `norm: group`, `layer` or `none`, or adapt: head",
            )  # fmt: skip
        if isinstance(module, nn.RNNBase) and any(p.requires_grad for p in module.parameters()):
            raise UsageError(
                f"gradients by row cannot be had of {name}, which is recurrent", where="privacy",
                expected="a network of convolutions, dense layers or attention",
            )  # fmt: skip


def noise_for(config: PrivacyConfig, rate: float, steps: int) -> float:
    """The deviation of the noise, in clips, with which so many steps cost just epsilon. UsageError where none does."""
    find = _opacus("accountants.utils").get_noise_multiplier
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noise = float(find(
                target_epsilon=config.epsilon, target_delta=config.delta, sample_rate=rate, steps=steps,
                accountant="rdp", epsilon_tolerance=config.epsilon / 1000,
            ))  # fmt: skip
    except ValueError:
        noise = math.inf
    if noise > _MOST_NOISE:
        least = epsilon_of(_MOST_NOISE, rate, steps, config.delta)
        raise UsageError(
            f"an epsilon of {config.epsilon:g} cannot be reached in {steps:,} steps with {rate:.2%} of the rows in each",
            where="privacy.epsilon", expected=f"at least {least:.2g}, fewer steps, or a smaller batch_size",
        )  # fmt: skip
    return noise


def epsilon_of(noise: float, rate: float, steps: int, delta: float) -> float:
    """What so many steps cost, by Rényi differential privacy (Mironov, 2017; Mironov et al., 2019)."""
    accountant = _opacus("accountants").RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another order than those tried might be tighter
        return float(accountant.get_epsilon(delta=delta))


def _opacus(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"opacus.{name}")
    except ImportError:
        raise missing_extra("opacus", "privacy") from None
