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
from jichu.core.randomness import generator, guarded, seed_step
from jichu.data.batches import select
from jichu.data.poisson import PoissonBatches
from jichu.objectives.adversarial import Attacked
from jichu.objectives.balancing import Balance
from jichu.objectives.base import Batch, Objective

from .config import PrivacyConfig
from .learner import Learner, cut

_AT_ONCE = 2**30  # bytes of gradients by row that are kept together
_TINY = 1e-6
_UNLIKE = 0.01  # of its length, by which a gradient may be off for rounding
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
        self._named = [(name, p) for name, p in learner.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in self._named]
        self.noise = noise_for(config, batches.rate, steps)
        size = 4 * sum(p.numel() for p in self.parameters)
        self.at_once = max(1, _AT_ONCE // size)  # rows
        try:
            self._hooks = _opacus("grad_sample").GradSampleHooks(learner, strict=False, loss_reduction="sum")
        except NotImplementedError as error:  # what it knows no gradients by row of
            raise UsageError(
                str(error), where="privacy", expected="another backbone, or adapt: head"
            ) from None
        self._hooks.disable_hooks()
        self._checked = False

    def gradients(
        self, batch: Batch, prepare: Callable[[Batch], Batch], autocast: Any, step: int, *, diagnose: bool,
        lap: Callable[[str], None],
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:  # fmt: skip
        """Leaves the noisy mean of the cut gradients in the parameters. Gives what `backward` gives, without noise."""
        rows = len(batch["row"])
        if rows and not self._checked:
            self._check(select(batch, torch.arange(rows, device=batch["row"].device) < 2), prepare)
            self._checked = True
        sums = [torch.zeros_like(p) for p in self.parameters]
        loss, found = torch.zeros(()), dict[str, Tensor]()
        shares: dict[str, Tensor] = {}
        for part in cut(batch, -(-rows // self.at_once)) if rows else []:
            ready = prepare(part)
            lap("data")
            with self._by_row():
                with autocast():
                    one, terms, _, found = self.learner(ready, self._ones(ready), 1, diagnose)
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

    def _ones(self, ready: Batch) -> dict[str, Tensor]:
        """The losses of rows are summed."""
        return {name: torch.ones(()) for name in self.learner.objective.weights(ready)}

    @contextmanager
    def _by_row(self) -> Iterator[None]:
        """Backward passes leave the gradients of each row."""
        convolutions = [m for m in self.learner.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
        handles = [m.register_forward_pre_hook(_contiguous) for m in convolutions]
        self._hooks.enable_hooks()
        try:
            with _quiet():
                yield
        finally:
            self._hooks.disable_hooks()
            for handle in handles:
                handle.remove()

    def _check(self, batch: Batch, prepare: Callable[[Batch], Batch]) -> None:
        """UsageError where the gradients by row do not add up to the gradient: of a parameter that is not used in a layer's
        usual way, say, or of a loss that is not of rows."""
        ready, device = prepare(batch), batch["row"].device
        with guarded(device):
            seed_step(device, "check")
            try:
                with self._by_row():
                    self.learner(ready, self._ones(ready), 1)[0].backward()
            except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                raise UsageError(
                    f"gradients by row cannot be had of this network and objective: {error}", where="privacy",
                    expected="adapt: head, or another network or objective",
                ) from error  # fmt: skip
            by_row = self._taken(len(ready["row"]))
            seed_step(device, "check")
            with _quiet():
                self.learner(ready, self._ones(ready), 1)[0].backward()
        for (name, parameter), found in zip(self._named, by_row, strict=True):
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            off = wanted if found is None else wanted - found.sum(0)
            if bool(off.norm() > _UNLIKE * wanted.norm() + _TINY):
                raise UsageError(
                    f"the gradients by row of {name} do not add up to its gradient", where="privacy",
                    expected="that layer frozen, adapt: head, or another network or objective",
                )  # fmt: skip
            parameter.grad = None

    def _taken(self, rows: int) -> list[Tensor | None]:
        """The gradients [B, ...] by row that a backward pass has left, of each parameter; they are taken off."""
        by_row: list[Tensor | None] = []
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
        return by_row

    def _add(self, sums: list[Tensor], rows: int) -> None:
        """Each row's gradients, cut, to the sums."""
        by_row = self._taken(rows)
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
    if any(isinstance(module, Balance) for module in objective.modules()):
        raise UsageError(
            "the factors of several losses are found from losses that nothing hides", where="privacy",
            expected="scales that are given, without `balance`",
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the word that the first layer's inputs, which are data, have no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook")
        yield


def _contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Opacus reads what comes into a convolution as if it lay in the usual order."""
    return tuple(x.contiguous() for x in inputs)


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
