"""What is said of each row in the end: its answers, those that keep the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jichu.data.predictions import told
from jichu.data.target import Target

from .columns import Answers, Columns
from .rulebook import Rules


def answered(
    names: Sequence[str], targets: Mapping[str, Target], scores: Answers, rules: Rules, columns: Columns
) -> list[dict[str, Any]]:
    """A row for each input, from the model's scores by target and the columns that rules speak of: the answer (of several
    targets by column), and with rules which of them have fired and what the model alone said. DataError where a column
    that a rule asks for is missing."""
    found: list[dict[str, Any]] = [{"input": name} for name in names]
    fired: list[dict[str, Any]] = []
    if rules:
        decision = rules.decide(scores, rules.inputs(columns))
        fired, scores = rules.told(decision, scores), decision.answers
    for key, target in targets.items():
        for row, answer in zip(found, told(target, scores[key]), strict=True):
            row |= answer if len(targets) == 1 else {target.column: answer}
    return [row | {"rules": rules} for row, rules in zip(found, fired, strict=True)] if fired else found
