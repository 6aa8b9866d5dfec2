"""What a model gives away of secrets that were planted among its training texts."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from jichu.auditing import figures
from jichu.auditing.blocks import Block, Figure, Note, Table
from jichu.core.errors import UsageError
from jichu.core.progress import number, task
from jichu.core.words import words
from jichu.data.canaries import Canaries, Canary
from jichu.data.dataset import Dataset
from jichu.data.target import Target
from jichu.data.texts import ragged
from jichu.metrics.exposure import by_chance, exact, extrapolated
from jichu.metrics.intervals import mean_interval, share_interval
from jichu.models.generate import generate
from jichu.models.model import Model

from .base import Look, Part, Reader, Subject

_SPARE = 2  # tokens that may be written beyond a secret's
_AT_ONCE = 64  # secrets that are asked for together
_COLUMNS = ("canaries", "exposure", "greedy", "beams")


class Planted(Part):
    """Of canaries (`data.canaries`), by how often each was planted: the exposure, from its rank among all secrets there could
    be, or, of more than `samples`, by a skew-normal distribution of so many; and the share of those that the model writes
    to the letter when it is asked, taking the likeliest token each time, and by a search with `beams`. Beside them those
    that were never planted."""

    title = "Does it tell planted secrets?"
    tasks = ("language", "text")

    def __init__(
        self, samples: Annotated[int, Field(ge=100)] = 1000, beams: Annotated[int, Field(ge=2, le=64)] = 4
    ):
        self.samples, self.beams = samples, beams

    def check(self, dataset: Dataset, target: Target | None) -> None:
        """There are some."""
        if dataset.canaries is None:
            raise UsageError("no canaries were planted", where="parts.canaries", expected="data.canaries")

    def measure(self, subject: Subject) -> dict[str, Any]:
        canaries = subject.dataset.canaries
        assert canaries is not None
        models = {}
        for stage in subject.fitted:
            if (how := subject.reads(stage)) is not None:
                models[stage] = self._of(_Asked(stage, subject, how, canaries))
        return {
            "space": canaries.space, "bits": math.log2(canaries.space), "chance": by_chance(canaries.space),
            "exact": canaries.space <= self.samples, "samples": self.samples, "beams": self.beams, "models": models,
        }  # fmt: skip

    def _of(self, asked: _Asked) -> dict[str, Any]:
        drawn, kept = asked.canaries.drawn, asked.subject.kept
        exposures = []
        with task(f"exposure in {asked.stage}", len(drawn)) as shown:
            for canary in drawn:
                find = functools.partial(asked.exposure, canary, self.samples)
                exposures.append(kept(find, "exposure", asked.stage, canary))
                shown.advance()
        greedy, beams = (
            kept(functools.partial(asked.said, width), "said", asked.stage, width)
            for width in (1, self.beams)
        )
        found = {}
        for repeats in sorted({canary.repeats for canary in drawn}):
            mine = [i for i, canary in enumerate(drawn) if canary.repeats == repeats]
            values = np.array([exposures[i] for i in mine], np.float64)
            found[str(repeats)] = {
                "canaries": len(mine),
                "exposure": mean_interval(values, seed=asked.subject.seed)._asdict(),
                "greedy": share_interval(sum(greedy[i] for i in mine), len(mine))._asdict(),
                "beams": share_interval(sum(beams[i] for i in mine), len(mine))._asdict(),
            }
        return {"repeated": found, "exposures": exposures}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        if not found["models"]:
            yield Note(words("No model here writes texts, one token after the other."))
            return
        rows = [
            [f"{stage}, {words('never') if often == '0' else often}", *(m[key] for key in _COLUMNS)]
            for stage, model in found["models"].items()
            for often, m in model["repeated"].items()
        ]
        heads = [
            words("planted so often"),
            words("canaries"),
            words("exposure"),
            words("told, likeliest token"),
        ]
        yield Table([*heads, words("told, {beams} beams", beams=found["beams"])], rows)
        points = {
            stage: [{"at": int(n), **m["exposure"]} for n, m in model["repeated"].items() if n != "0"]
            for stage, model in found["models"].items()
        }
        levels = {words("by chance"): found["chance"], words("the likeliest of all"): found["bits"]}
        yield Figure(figures.scaling(points, words("times planted"), words("exposure, bits"), levels=levels))
        about = {"space": found["space"], "chance": number(found["chance"]), "bits": number(found["bits"])}
        yield Note(
            words(
                "Made-up secrets were planted among the training texts. Exposure is in bits, ranked among all {space:,} that there"
                " could be: {chance} is what one has that was never planted, {bits} says that the model finds it the likeliest."
                " Intervals are over canaries.", **about,
            ) if found["exact"] else
            words(
                "Made-up secrets were planted among the training texts. Exposure is in bits, by a skew-normal distribution of"
                " {samples:,} of {space:,} that there could be: {chance} is what one has that was never planted, {bits} says that"
                " the model finds it the likeliest. Intervals are over canaries.", samples=found["samples"], **about,
            )
        )  # fmt: skip

    @staticmethod
    def worries(found: dict[str, Any], stage: str, target: Target | None) -> Iterator[str]:
        told = found["models"].get(stage, {"repeated": {}})["repeated"]
        written = [int(often) for often, m in told.items() if often != "0" and m["greedy"]["value"]]
        if written:
            yield words(
                "{stage} writes secrets to the letter that were planted {often} times among its training texts.",
                stage=stage, often=min(written),
            )  # fmt: skip


class _Asked:
    """A model that is asked for canaries."""

    def __init__(self, stage: str, subject: Subject, how: Reader, canaries: Canaries):
        self.stage, self.subject, self.how, self.canaries = stage, subject, how, canaries

    @property
    def model(self) -> Model:
        return self.subject.load(self.stage)

    def exposure(self, canary: Canary, samples: int) -> float:
        """Of one, among all others or some."""
        space, seed = self.canaries.space, self.subject.seed
        others = [
            s for s in self.canaries.secrets(samples, seed, "others", canary.name) if s != canary.secret
        ]
        texts = self.canaries.texts(
            self.subject.dataset, [(canary.name, s) for s in (canary.secret, *others)]
        )
        own, *rest = (float(nats.sum()) for nats in self.how.nats(self.model, texts))
        return exact(own, np.array(rest)) if space <= samples else extrapolated(own, np.array(rest), space)

    def said(self, beams: int) -> list[bool]:
        """Whether the model writes each to the letter, asked by what stands before it."""
        tokenizer, drawn = self.subject.tokenizer, self.canaries.drawn
        assert tokenizer is not None
        secrets = tokenizer.echo([canary.secret for canary in drawn])
        most = max(map(len, tokenizer.encode(secrets))) + _SPARE
        before = ragged([self.canaries.asked(canary.name, canary.secret)[0] for canary in drawn])
        prompts = self.how.prompts(self.model, before)
        how: Any = {"beams": beams} if beams > 1 else {"temperature": 0}
        parts = [prompts[start : start + _AT_ONCE] for start in range(0, len(prompts), _AT_ONCE)]
        told = [g.text for part in parts for g in generate(self.model, tokenizer, part, most=most, **how)]
        return [text.strip().startswith(secret) for text, secret in zip(told, secrets, strict=True)]
