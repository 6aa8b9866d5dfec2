"""What is left of a model's accuracy when somebody wants it to err."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from jichu.attacks import Attack, Norm, Threat, ascent, drawing, fooled, make
from jichu.attacks.ensemble import Ensemble
from jichu.attacks.gradient import FastGradient, ProjectedGradient
from jichu.attacks.losses import cross_entropy
from jichu.attacks.space import space
from jichu.attacks.square import Square
from jichu.attacks.threat import length
from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table, interval
from jichu.core.config import Named
from jichu.core.errors import UsageError
from jichu.core.progress import Task, number, task
from jichu.core.words import named, retold, words
from jichu.data.batches import gather
from jichu.data.target import Target
from jichu.metrics.intervals import share_interval
from jichu.models.model import Model
from jichu.models.modes import evaluating

from .base import Look, Part, Subject

_AT_ONCE = 100  # rows
_STEPS = 40  # of projected gradients
_STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of epsilon, on the curve
_FAR = 16  # times epsilon at which hardly a model should stand
_DEPTHS = {
    "usual": (50, 3, 1000),
    "full": (100, 9, 5000),
}  # steps, targets and queries of the strongest attack
_HINT = 0.05  # share of the rows that makes a sign of hidden gradients


class Robustness(Part):
    """Accuracy on held-out rows that are attacked within `epsilon`: by one step along the gradient, by forty, and by the
    strongest, an `attack` that is named, or auto-PGD with two losses, FAB and squares. Where the gradients do not show the way (Athalye et al., 2018, arXiv
    1802.00420) it is said. Images change by brightness, sounds by amplitude, numbers of tables by distances of their
    quartiles; epsilon is 8/255, 0.002 and 0.1 of these if it is not given."""

    title = "When somebody wants it to err"
    tasks = ("classification",)

    def __init__(
        self,
        epsilon: Annotated[float, Field(gt=0)] | None = None,
        norm: Norm = "linf",
        rows: Annotated[int, Field(ge=1)] = 200,
        depth: Literal["usual", "full"] = "usual",
        attack: Named | None = None,
    ):
        self.epsilon, self.norm, self.rows, self.depth, self.attack = epsilon, norm, rows, depth, attack
        if attack is not None:
            make(attack, "parts.robustness.attack")

    def measure(self, subject: Subject) -> dict[str, Any]:
        rows = subject.sample(self.rows)
        batches = [gather(subject.dataset.tensors, part) for part in rows.split(_AT_ONCE)]
        try:
            where = space(subject.load(subject.fitted[0]), batches[0])
        except UsageError:
            return {"rows": len(rows), "models": {}}
        threat = where.threat(self.epsilon, self.norm)
        models = {stage: self._of(stage, subject, batches, threat) for stage in subject.fitted}
        return {
            "rows": len(rows), "epsilon": threat.epsilon, "norm": self.norm, "unit": where.unit,
            "steps": _STEPS, "attack": self.attack and self.attack.name, "models": models,
        }  # fmt: skip

    def _of(
        self, stage: str, subject: Subject, batches: list[dict[str, Tensor]], threat: Threat
    ) -> dict[str, Any]:
        steps, targets, queries = _DEPTHS[self.depth]
        model = subject.load(stage)
        with evaluating(model), task(f"attacks on {stage}", (len(_STRENGTHS) + 3) * len(batches)) as shown:
            attacked = _Attacked(model, batches, subject, shown)
            clean = attacked.right()
            found: dict[str, Any] = {"clean": _share(clean)}
            try:
                one = attacked.stand(FastGradient(), threat, clean)
            except UsageError:  # trees, neighbours, counts: they can only be asked
                found["differentiable"] = False
                if self.norm == "linf":
                    found["squares"] = _share(attacked.stand(Square(queries), threat, clean))
                return found
            pgd = ProjectedGradient(_STEPS)
            many = attacked.stand(pgd, threat, clean)
            strongest = make(self.attack) if self.attack else Ensemble(steps, targets, queries)
            left = attacked.stand(strongest, threat, one & many)
            found |= {"differentiable": True, "one_step": _share(one), "many_steps": _share(many)}
            fell = dict(getattr(strongest, "fell", {}))  # of an ensemble
            found |= {"strongest": _share(left), "fell": fell}
            found["curve"], far = attacked.curve(pgd, threat, clean, many)
            found["hidden"] = _signs(clean, one, many, fell.get("square", 0), far, attacked.flat(threat))
        return found

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models, rows = found["models"], found["rows"]
        if not models:
            yield Note(
                words("These inputs cannot be changed a little: there are no images, sounds or numbers.")
            )
            return
        heads = {
            "clean": words("as they are"), "one_step": words("one step"),
            "many_steps": words("{steps} steps", steps=found["steps"]), "strongest": words("the strongest"),
            "squares": words("squares"),
        }  # fmt: skip
        heads = {name: head for name, head in heads.items() if any(name in m for m in models.values())}
        table = [[stage, *(m.get(name) for name in heads)] for stage, m in models.items()]
        yield Table([words("accuracy of"), *heads.values()], table)
        about = {"norm": found["norm"], "unit": named(found["unit"])}
        if curves := {stage: m["curve"] for stage, m in models.items() if "curve" in m}:
            label = words("change at most, {norm}, {unit}", **about)
            yield Figure(figures.strengths(curves, label, named("accuracy")))
        about |= {"rows": rows, "epsilon": number(found["epsilon"])}
        yield Note(
            words(
                "{rows:,} held-out rows, each changed by at most {epsilon} {unit} in {norm}. The strongest: auto-PGD by two"
                " losses, FAB, random squares, each on those that still stand; a stronger attacker may leave less.", **about,
            ) if not found["attack"] else
            words(
                "{rows:,} held-out rows, each changed by at most {epsilon} {unit} in {norm}. The strongest: {attack}; a stronger"
                " attacker may leave less.", attack=found["attack"], **about,
            )
        )  # fmt: skip
        for stage, m in models.items():
            if not m["differentiable"]:
                yield Note(
                    words("{stage} has no gradients; only its answers were asked.", stage=stage) if "squares" in m else
                    words("{stage} has no gradients, and squares are for linf: it was not attacked.", stage=stage)
                )  # fmt: skip
            elif m["hidden"]:
                yield Note(_hidden(stage, m))

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        told = found["models"].get(stage, {})
        if told.get("hidden"):
            yield _hidden(stage, told)
        left = told.get("strongest", told.get("squares"))
        if left and (left["high"] or 0) < (told["clean"]["low"] or 0):
            yield words(
                "Inputs changed by at most {epsilon} {unit} leave {stage} an accuracy of {left} of {clean}, on {rows:,} rows.",
                epsilon=number(found["epsilon"]), unit=named(found["unit"]), stage=stage, rows=found["rows"],
                left=" ".join(interval(left)), clean=interval(told["clean"])[0],
            )  # fmt: skip


def _hidden(stage: str, told: dict[str, Any]) -> str:
    signs = "; ".join(map(retold, told["hidden"]))
    return words(
        "The gradients of {stage} may be hidden, so that it looks stronger than it is: {signs}.",
        stage=stage,
        signs=signs,
    )


class _Attacked:
    """A model and the batches that it is attacked on."""

    def __init__(self, model: Model, batches: list[dict[str, Tensor]], subject: Subject, shown: Task):
        self.seed, self.shown = subject.seed, shown
        self.places = []
        for batch in batches:
            where = space(model, batch)
            self.places.append(
                (where.victim(model, batch, subject.key), where.enter(batch), batch[subject.key])
            )

    def right(self) -> Tensor:
        """Whether each row is right as it is, bool [N]."""
        return torch.cat([~fooled(victim(x), truth) for victim, x, truth in self.places])

    def stand(self, attack: Attack, threat: Threat, among: Tensor) -> Tensor:
        """Whether each of these rows, bool [N], is still right."""
        found = []
        for i, ((victim, x, truth), there) in enumerate(zip(self.places, among.split(_AT_ONCE), strict=True)):
            stands, left = there.clone(), there.nonzero()[:, 0]
            if len(left):
                changed = attack(victim.of(left), x[left], truth[left], threat, drawing(self.seed + i))
                stands[left] = ~fooled(victim.of(left)(changed), truth[left])
            found.append(stands)
            self.shown.advance()
        return torch.cat(found)

    def curve(
        self, attack: Attack, threat: Threat, clean: Tensor, whole: Tensor
    ) -> tuple[list[dict[str, float]], Tensor]:
        """What stands at each strength, `whole` at that of the threat; and far beyond all. What a small change fools, a
        larger one that is allowed to be small does too."""
        points, left = [], clean
        for k in _STRENGTHS:
            if k:
                left = left & whole if k == 1 else self.stand(attack, _times(threat, k), left)
            points.append({"at": k * threat.epsilon, **_share(left)})
        return points, self.stand(attack, _times(threat, _FAR), left)

    def flat(self, threat: Threat) -> Tensor:
        """Whether each row has a gradient of nothing, bool [N]."""
        gradients = (ascent(victim, x, truth, cross_entropy)[0] for victim, x, truth in self.places)
        return torch.cat([length(gradient).flatten() == 0 for gradient in gradients])


def _share(right: Tensor) -> dict[str, float]:
    return share_interval(int(right.sum()), len(right))._asdict()


def _times(threat: Threat, k: float) -> Threat:
    return replace(threat, epsilon=k * threat.epsilon)


def _signs(clean: Tensor, one: Tensor, many: Tensor, by_squares: int, far: Tensor, flat: Tensor) -> list[str]:
    """What speaks for hidden gradients, in words."""
    few, rows = _HINT * len(clean), len(clean)
    signs = {
        f"one step fools {int((~one & many).sum())} of {rows} rows that many steps do not": (
            ~one & many
        ).sum()
        > few,
        f"squares, which follow no gradient, fool {by_squares} that gradients do not": by_squares > few,
        f"{int(far.sum())} stand {_FAR} times the change": far.sum() > 2 * few,
        f"the gradient of {int((flat & clean).sum())} right rows is nothing": (flat & clean).sum() > few,
    }
    return [words for words, seen in signs.items() if seen]
