"""What can be known of rules before anything runs."""

from __future__ import annotations

from jichu.core.errors import UsageError
from jichu.core.names import resolve
from jichu.core.progress import say
from jichu.models import HEADS
from jichu.models.classical import Estimated

from .build import Work
from .config import FinetuneStage


def check_rules(work: Work) -> None:
    """UsageError where rules cannot be understood, contradict each other on a row, or do nothing. Rows that break one are
    counted, and stay."""
    dataset, recipe = work.dataset, work.recipe
    if not recipe.fitted or not work.rules().targets:
        raise UsageError(
            "rules are about what is answered, and no stage answers with classes or numbers",
            where="rules", expected="a finetune stage on such a target",
        )  # fmt: skip
    rules = work.rules()
    _refuse_idle_penalties(work)
    rules.refuse_contradictions(rules.of_rows(dataset), lambda row: dataset.names[row])
    for name, broken in rules.broken(dataset).items():
        if count := int(broken.sum()):
            first = dataset.names[int(broken.argmax())]
            say(f"  {count:,} of {len(dataset):,} rows break the rule {name}; the first: {first}")


def _refuse_idle_penalties(work: Work) -> None:
    """Heads that are estimated at once have no loss that a penalty could be added to."""
    heads = [stage.head.name for stage in work.recipe.stages if isinstance(stage, FinetuneStage)]
    kinds = [resolve("head", name, HEADS) for name in heads]
    if not all(isinstance(kind, type) and issubclass(kind, Estimated) for kind in kinds):
        return
    for i, rule in enumerate(work.recipe.rules):
        if rule.penalty:
            raise UsageError(
                f"penalty does nothing with the head {heads[0]}, which is estimated in one go",
                where=f"rules.{i}.penalty", expected="no such key, or head: linear",
            )  # fmt: skip
