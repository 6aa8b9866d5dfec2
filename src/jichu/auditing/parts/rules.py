"""Whether rules are kept: by what stands in the data, by what models say alone, by what is said in the end; and what it
costs to keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Note, Table
from jichu.auditing.measure import USUAL, better_by
from jichu.constraints.columns import Array
from jichu.constraints.rulebook import Rules
from jichu.core.errors import UsageError
from jichu.core.words import named, words
from jichu.data.dataset import Dataset
from jichu.data.target import Target
from jichu.metrics import fits, metric
from jichu.metrics.intervals import metric_interval, share_interval
from jichu.models.folder import read_config
from jichu.train.predict import predict

from .base import Look, Part, Subject


class KeptRules(Part):
    """Of each rule the share of the held-out rows that break it, and of each target that rules change the `metric` (where
    it fits, else the first of the usual ones) with them and without, on the same rows. Of the models of the first draw."""

    title = "Are the rules kept?"
    each_target = False

    def __init__(self, metric: str | None = None):
        self.metric = metric

    def check(self, dataset: Dataset, target: Target | None) -> None:
        if self.metric is not None:
            metric(self.metric, where="parts.rules.metric")

    def measure(self, subject: Subject) -> dict[str, Any]:
        models = {stage: read_config(subject.place(stage)) for stage in subject.fitted}
        of = {stage: model.rules.of(model.targets) for stage, model in models.items() if model.rules}
        if not of:
            raise UsageError(
                "the rules are asked for, and there are none", expected="a recipe with rules: [age >= 0, …]"
            )
        first = next(iter(of.values()))
        broken = first.broken(subject.dataset, subject.rows.numpy())
        return {
            "rows": len(subject.rows),
            "rules": {rule.name: rule.action for rule in first.rules},
            "data": {name: _share(rows) for name, rows in broken.items()},
            "models": {stage: self._of(stage, rules, subject) for stage, rules in of.items()},
        }

    def _of(self, stage: str, rules: Rules, subject: Subject) -> dict[str, Any]:
        dataset, rows, learnt = subject.dataset, subject.rows, rules.targets
        outputs = predict(subject.load(stage), dataset.inputs, rows, list(learnt))
        alone = {key: tables.answers(target, outputs[key]) for key, target in learnt.items()}
        inputs, truth = rules.of_rows(dataset, rows), rules.truth(dataset, rows)
        decision = rules.decide(alone, inputs)
        before, after = (rules.fired(answers, inputs) for answers in (alone, decision.answers))
        enforced = {key for rule in rules.rules if rule.enforced for key in (*rule.classes, *rule.numbers)}
        return {
            "alone": {name: _share(broken) for name, broken in before.items()},
            "after": {name: _share(broken) for name, broken in after.items()},
            "targets": {
                target.column: {
                    "changed": _share(decision.changed[key]),
                    **self._gain(
                        target, truth[target.column].values, alone[key], decision.answers[key], subject.seed
                    ),
                }
                for key, target in learnt.items()
                if key in enforced
            },
        }

    def _gain(self, target: Target, truth: Array, alone: Array, decided: Array, seed: int) -> dict[str, Any]:
        """The metric without and with the rules, where the truth is known to the model."""
        numbers = target.task == "regression"
        known = ~np.isnan(truth) if numbers else (truth >= 0) & (truth < target.outputs)
        sides = [(a[:, target.point] if numbers else a)[known][None] for a in (alone, decided)]
        fit = self.metric is not None and (":" in self.metric or self.metric in fits(target.task))
        name = self.metric if self.metric and fit else USUAL[target.task][0]
        function = metric(name)

        found = [metric_interval(function, truth[known], side, seed=seed)._asdict() for side in sides]
        without, with_ = ((np.flatnonzero(known), truth[known], side) for side in sides)
        better = better_by(with_, without, function, target, ("with", "without"), seed)
        return {"metric": name, "without": found[0], "with": found[1], "better_by": better._asdict()}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models = found["models"]
        heads = [words("{stage} alone", stage=stage) for stage in models]
        heads += [words("{stage}, ruled", stage=stage) for stage in models]
        yield Table(
            [words("rule"), "", words("rows that break it"), *heads],
            [
                [name, named(action), found["data"][name], *(m["alone"][name] for m in models.values()),
                 *(m["after"][name] for m in models.values())]
                for name, action in found["rules"].items()
            ],
        )  # fmt: skip
        changed = [
            [f"{stage}: {column}", named(t["metric"]), t["without"], t["with"], t["better_by"], t["changed"]]
            for stage, m in models.items() for column, t in m["targets"].items()
        ]  # fmt: skip
        if changed:
            heads = [
                words("metric"),
                words("alone"),
                words("with the rules"),
                words("better by"),
                words("answers changed"),
            ]
            yield Table(["", *heads], changed)
        yield Note(
            words(
                "Shares of {rows:,} held-out rows, with Wilson's intervals. What stands in the rows, their truth included, may"
                " break a rule; so may what a model says of them alone. Every other figure of this report is of the model alone.",
                rows=found["rows"],
            )
        )  # fmt: skip


def _share(rows: np.ndarray) -> dict[str, float]:
    return share_interval(int(rows.sum()), len(rows))._asdict()
