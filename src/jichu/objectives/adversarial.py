"""Adversarial training: learn from inputs that are changed, within bounds, to be as hard as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from jichu.attacks.gradient import climb
from jichu.attacks.space import Space, space
from jichu.attacks.threat import Norm, Threat
from jichu.core.errors import UsageError
from jichu.models.modes import fixed

from .base import Batch, Context, Losses, Objective, as_terms
from .supervised import Classification
from .unlabelled import Share, Weight
from .wrapper import Wrapper

Positive = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=1)]
_PLACE, _REACH = "adversarial.start", "adversarial.reach"


class Attacked(Wrapper):
    """Where the attack begins is drawn when a batch is prepared; `epsilon` and the units are those of attacks/space.py, a
    step is `size` times epsilon long, by default 2.5 times it over their number. Epsilon grows to what it is to be over
    the `ramp`, a share of training: from the beginning, a small network may learn nothing. The model is in evaluation
    mode while it is attacked, so that what is attacked does not depend on the other rows."""

    kinds = ("image", "audio", "table")

    def __init__(
        self,
        inner: Objective,
        epsilon: Positive | None = None,
        norm: Norm = "linf",
        steps: Steps = 7,
        size: Positive | None = None,
        ramp: Share = 0.0,
    ):
        super().__init__(inner)
        self.epsilon, self.norm, self.steps, self.ramp = epsilon, norm, steps, ramp
        self.size = size or 2.5 / steps

    def bind(self, model: nn.Module, batch: Batch) -> None:
        super().bind(model, batch)
        space(model, batch)  # or an error

    def prepare(self, batch: Batch, context: Context) -> Batch:
        batch = super().prepare(batch, context)
        if _PLACE in batch:
            raise UsageError("adversarial training is wrapped in itself", expected="one of them in `wrap`")
        column = next(batch[name] for name in ("image", "audio", "numbers") if name in batch)
        drawn = context.uniform(batch["row"], column[0].numel(), _PLACE).view(column.shape)
        grown = min(1.0, (context.progress + 1 / context.steps) / self.ramp) if self.ramp else 1.0
        reach = torch.full((len(column),), grown, device=column.device)
        return {**batch, _PLACE: drawn, _REACH: reach}

    def attacked(self, model: nn.Module, batch: Batch, score: Callable[[Batch], Tensor]) -> Batch:
        """The batch with inputs that raise the score [B] of each row."""
        where: Space = space(model, batch)
        whole = where.threat(self.epsilon, self.norm)
        threat = Threat(whole.epsilon * float(batch[_REACH][0]), whole.norm, whole.low, whole.high)
        origin = where.enter(batch)
        start = threat.start(origin, batch[_PLACE])
        found = climb(lambda x: score(where.leave(x, batch)), origin, start, threat, self.steps, self.size)
        return where.leave(found, batch)


class Adversarial(Attacked):
    """The loss of inputs that were attacked by projected gradients (Madry et al., 2018, arXiv 1706.06083) in place of that
    of the inputs. The learner minimises what the attack raises, whatever it is."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        def score(changed: Batch) -> Tensor:
            terms = as_terms(self.inner.losses(self.inner(model, changed), changed))
            return torch.stack([loss for loss in terms.values() if loss.ndim]).sum(0)

        with fixed(model):
            changed = self.attacked(model, batch, score)
        return self.inner(model, changed)


class Trades(Attacked):
    """The loss of the inputs, and `beta` times how far the answers move, KL(clean ‖ attacked), when these are attacked to
    move them (TRADES: Zhang et al., 2019, arXiv 1901.08573)."""

    def __init__(
        self,
        inner: Objective,
        beta: Weight = 6.0,
        epsilon: Positive | None = None,
        norm: Norm = "linf",
        steps: Steps = 7,
        size: Positive | None = None,
        ramp: Share = 0.0,
    ):
        super().__init__(inner, epsilon, norm, steps, size, ramp)
        self.beta = beta
        core = self.innermost
        if not isinstance(core, Classification):
            raise UsageError(
                "trades compares the probabilities of classes", where="wrap", expected="a target of classes"
            )
        self.target = core.target

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        with fixed(model):
            with torch.no_grad():
                answers = model(batch)[self.target]
            changed = self.attacked(model, batch, lambda b: _moved(answers, model(b)[self.target]))
        return {**self.inner(model, batch), "attacked": model(changed)[self.target]}

    def losses(self, outputs: Any, batch: Batch) -> Losses:
        moved = self.beta * _moved(outputs[self.target], outputs["attacked"])
        terms = as_terms(super().losses(outputs, batch))
        return {name: loss + moved if name == "loss" else loss for name, loss in terms.items()}

    def diagnose(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Also the share of the rows whose answer moved."""
        moved = outputs["attacked"].argmax(1) != outputs[self.target].argmax(1)
        return {**super().diagnose(outputs, batch), "moved": moved.float().mean()}


def _moved(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL divergence [B] of the answers, from logits [B, K]."""
    clean, attacked = clean.float().log_softmax(1), attacked.float().log_softmax(1)
    return F.kl_div(attacked, clean, reduction="none", log_target=True).sum(1)
