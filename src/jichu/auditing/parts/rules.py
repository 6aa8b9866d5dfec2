"""Whether rules are kept: by what stands in the data, by what models say alone, by what is said in the end; and what it
costs to keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jichu.auditing import table as tables
from jichu.auditing.blocks import Block, Note, Table
from jichu.auditing.measure import USUAL, Scored, better_by
from jichu.constraints.columns import Answers
from jichu.core.errors import UsageError
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
        rules = subject.rules
        if not rules:
            raise UsageError(
                "the rules are asked for, and there are none", expected="a recipe with rules: [age >= 0, …]"
            )
        broken = rules.broken(subject.dataset, subject.rows.numpy())
        return {
            "rows": len(subject.rows),
            "rules": {rule.name: rule.action for rule in rules.rules},
            "data": {name: _share(rows) for name, rows in broken.items()},
            "models": {stage: self._of(stage, subject) for stage in subject.fitted},
        }

    def _of(self, stage: str, subject: Subject) -> dict[str, Any]:
        rules, dataset, rows = subject.rules, subject.dataset, subject.rows
        assert rules is not None
        learnt = {
            key: t for key, t in read_config(subject.place(stage)).targets.items() if key in rules.targets
        }
        outputs = predict(subject.load(stage), dataset.inputs, rows, list(learnt))
        alone = {key: tables.answers(target, outputs[key]) for key, target in learnt.items()}
        inputs = rules.of_rows(dataset, rows.numpy())
        decision = rules.decide(alone, inputs)
        before, after = (rules.fired(answers, inputs) for answers in (alone, decision.answers))
        enforced = {key for rule in rules.rules if rule.enforced for key in (*rule.classes, *rule.numbers)}
        return {
            "alone": {name: _share(broken) for name, broken in before.items()},
            "after": {name: _share(broken) for name, broken in after.items()},
            "targets": {
                target.column: {
                    "changed": _share(decision.changed[key]),
                    **self._gain(key, target, alone, decision.answers, subject),
                }
                for key, target in learnt.items()
                if key in enforced
            },
        }

    def _gain(
        self, key: str, target: Target, alone: Answers, decided: Answers, subject: Subject
    ) -> dict[str, Any]:
        assert subject.rules is not None
        values = subject.rules.truth(subject.dataset, subject.rows.numpy())[target.column].values
        known = (
            ~np.isnan(values) if target.task == "regression" else (values >= 0) & (values < target.outputs)
        )
        rows, truth = subject.rows.numpy()[known], values[known]
        fit = self.metric is not None and (":" in self.metric or self.metric in fits(target.task))
        name = self.metric if self.metric and fit else USUAL[target.task][0]
        function = metric(name)

        def scored(answers: Answers) -> Scored:
            found = answers[key][known]
            return rows, truth, (found if target.task == "classification" else found[:, target.point])[None]

        with_, without = scored(decided), scored(alone)
        better = better_by(with_, without, function, target, ("with", "without"), subject.seed)
        of_each = {
            name: metric_interval(function, truth, side[2], seed=subject.seed)._asdict()
            for name, side in (("without", without), ("with", with_))
        }
        return {"metric": name, **of_each, "better_by": better._asdict()}

    @staticmethod
    def show(found: dict[str, Any], target: Target | None, look: Look) -> Iterator[Block]:
        models = found["models"]
        yield Table(
            ["rule", "", "rows that break it", *(f"{stage} alone" for stage in models), *(f"{stage}, ruled" for stage in models)],
            [
                [name, action, found["data"][name], *(m["alone"][name] for m in models.values()),
                 *(m["after"][name] for m in models.values())]
                for name, action in found["rules"].items()
            ],
        )  # fmt: skip
        changed = [
            [f"{stage}: {column}", t["metric"].replace("_", " "), t["without"], t["with"], t["better_by"], t["changed"]]
            for stage, m in models.items() for column, t in m["targets"].items()
        ]  # fmt: skip
        if changed:
            yield Table(["", "metric", "alone", "with the rules", "better by", "answers changed"], changed)
        yield Note(
            f"Shares of {found['rows']:,} held-out rows, with Wilson's intervals. What stands in the rows, their truth"
            " included, may break a rule; so may what a model says of them alone. Every other figure of this report is of"
            " the model alone."
        )


def _share(rows: np.ndarray) -> dict[str, float]:
    return share_interval(int(rows.sum()), len(rows))._asdict()
