"""What the recipes that `jichu init` writes have in common, whatever the data."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from jichu.core.errors import UsageError
from jichu.data.config import DataConfig
from jichu.data.dataset import Dataset
from jichu.data.schema import LABEL
from jichu.data.splits import stratified
from jichu.data.target import Target

from .lines import Key, hint, line, run_name, told

_UNBALANCED = 5  # times as many rows of one class as of another, from which classes are weighed
_FEW_VALIDATED = 10  # rows below which a validation loss says too little to stop by
_GROUP = re.compile(
    r"(.*[_\s.-])?(patient|subject|person|user|customer|client|family|household|group|session|site|device"
    r"|speaker|author|scene|video|sample|donor|animal)s?([_\s.-]?(id|no|nr|number|code))?",
    re.IGNORECASE,
)
_KEY = re.compile(r"(.*[_\s.-])?id|.*[a-z]I[dD]", re.IGNORECASE)


class Draft:
    """What recipes of all kinds of data have. A subclass says what `rows_are`, which `stages` there are and whose
    model is the `result`."""

    rows_are: str

    def __init__(self, dataset: Dataset, found: dict[str, Any], config: DataConfig):
        self.dataset, self.found, self.config = dataset, found, config
        self.given = config.model_dump(exclude_unset=True, exclude_defaults=True)
        train = dataset.splits["train"]
        labelled = dataset.labelled("train")
        about = dataset.about_targets(labelled).get(LABEL)
        if about is not None and not _tells(about):
            self.same(about)
            about = None
        if about is None:
            self.ask()
        self.target = about
        self.rows, self.labelled = len(train), len(labelled) if about else 0
        self.blind = self.rows - self.labelled
        self.measurable = about is not None and self.held_out("test") > 0

    @property
    def result(self) -> str:
        """The stage whose model is the run's."""
        raise NotImplementedError(f"{type(self).__name__}.result")

    @property
    def few_labels(self) -> bool:
        """Whether to be pretrained on first, since most rows have no label."""
        return False

    def same(self, target: Target) -> None:
        """The target tells nothing; of what can be pretrained on that is no error."""

    def ask(self) -> None:
        """UsageError where there are columns that could be predicted."""
        columns = self.found["columns"]
        named = [c["name"] for c in columns if c["type"] in ("number", "category", "tags")]
        if named:
            raise UsageError(
                f"which column of {self.found['source']} is to be predicted is not clear",
                where="--target", expected=f"one of {', '.join(named)}",
            )  # fmt: skip

    def held_out(self, split: str) -> int:
        return len(self.dataset.labelled(split)) if split in self.dataset.splits else 0

    # --- what is written

    def lines(self) -> Iterator[str]:
        yield f"# Written by jichu init for {told(self.found['source'])}: {self.found['rows']:,} {self.rows_are}; {self.what()}."
        yield "# A beginning, to be edited: every key can be changed, and what is left out has a default."
        if self.found["remarks"]:
            yield "#"
            yield "# Before you train:"
            yield from (f"#   - {told(remark, 300)}" for remark in self.found["remarks"])
        yield ""
        yield line(("name", run_name(self.config.path), "of the folder in runs/"))
        yield line(("seed", 0, "splits, weights and batches follow from it"))
        yield "data:"
        yield from ("  " + line for line in self._data())
        yield "stages:"
        for stage in [[("stage", "inspect", "writes data.html: look at it first")], *self.stages()]:
            yield from ("    " + line(key) if i else "  - " + line(key) for i, key in enumerate(stage))
        if self.target and not self.measurable:
            yield "  # no audit: no labelled row is held out, so that nothing could be measured"
        if self.target:
            yield line(("result", self.result, "whose model is the run's; the report says which is best"))

    def what(self) -> str:
        """What is to be told of the rows."""
        target = self.target
        if target is None:
            return "without labels"
        if target.task == "forecast":
            return f"the next {target.steps} steps of {told(target.column)}"
        if target.task == "regression":
            return f"{told(target.column)} is a number, {target.mean:.4g} ± {target.std:.4g}"
        few, many = _ends(target)
        each = f"{few:,} to {many:,}" if few < many else f"{few:,}"
        return f"{len(target.classes)} classes, {each} training rows each"

    def _data(self) -> Iterator[str]:
        yield line(("path", self.config.path, ""))
        for key, value in self.given.items():
            if key not in ("path", "target", "split"):
                yield line((key, value, "as you said"))
        if self.target:
            yield from self.target_line()
        yield from self.data_lines()
        yield from self._split()
        yield from self.columns()

    def target_line(self) -> Iterator[str]:
        """The columns that are predicted."""
        assert self.target is not None
        columns = [c for t in self.dataset.targets.values() for c in t.series or (t.column,)]
        why = {
            "classification": "its values are classes", "regression": "a number", "multilabel": "tags",
            "text": "a text to be written", "forecast": "what is told of them comes next",
        }  # fmt: skip
        yield line(("target", columns[0] if len(columns) == 1 else columns, why[self.target.task]))

    def data_lines(self) -> Iterator[str]:
        """What else is said of the data."""
        yield from ()

    def columns(self) -> Iterator[str]:
        """The types of columns as comments, and what to think about twice."""
        yield from ()

    def stages(self) -> list[list[Key]]:
        """All after the first, which looks at the data."""
        raise NotImplementedError(f"{type(self).__name__}.stages")

    def _split(self) -> Iterator[str]:
        have, given = set(self.dataset.splits), self.config.split
        shares: list[Key] = []
        if not (self.dataset.splits_given and "test" in have):
            shares.append(("test", given.test, "held out to measure, never trained on"))
        if not (self.dataset.splits_given and "validation" in have) and self._validated():
            shares.append(("validation", given.validation or 0.1, "held out to stop in time"))
        for key in ("group", "time"):
            if named := getattr(given, key):
                shares.append((key, named, "as you said"))
        told = [] if given.group or given.time else list(self.split_hints())
        if shares:
            yield "split:"
            yield from ("  " + line(share) for share in shares)
        elif self.dataset.splits_given:
            yield f"# the splits are those of the source: {', '.join(sorted(have))}"
        yield from ("  " + line for line in (told if shares else []))

    def split_hints(self) -> Iterator[str]:
        """How else rows might be held out."""
        if self.dataset.splits_given:
            return
        for c in self.found["columns"]:
            distinct, name = c.get("distinct", 0), c["name"]
            several = 4 < distinct <= self.found["rows"] / 2
            named = _GROUP.fullmatch(name) or (_KEY.fullmatch(name) and c["type"] != "ignored")
            if several and named and not c["role"].startswith("target"):
                each = self.found["rows"] / distinct
                yield hint(
                    "group", name, f"{distinct:,} values, {each:.1f} rows each: keep them in one split?"
                )
            if c["type"] == "timestamp" and distinct > 10:
                yield hint("time", name, "hold out the latest rows, if it is the future that is predicted")

    # --- stages

    def objective(self) -> Iterator[Key]:
        if self.unbalanced():
            few, many = _ends(self.target)
            weights = {"name": "classification", "class_weights": "balanced"}
            yield "objective", weights, f"{few:,} to {many:,} rows a class: each class counts alike"

    def head(self, head: Any) -> Key:
        """The head, with balanced classes where it can weigh them and they want it."""
        named = {"name": head} if isinstance(head, str) else head
        if self.unbalanced() and named["name"] in ("logistic-regression", "gradient-boosting"):
            return "head", {**named, "class_weights": "balanced"}, "each class counts alike"
        return "head", head, ""

    def length(self, epochs: int, patience: int) -> Iterator[Key]:
        batch = batch_of(self.labelled)
        yield "budget", f"{epochs} epochs", self.steps(self.labelled, epochs, batch)
        yield "batch_size", batch, f"of {self.labelled:,} labelled rows"
        if self._validated():
            yield "patience", patience, "stops after so many epochs without gain on the validation rows"

    def audit(self, first: str, second: str = "") -> Iterator[list[Key]]:
        if not self.measurable:
            return
        assert self.target is not None
        audit: list[Key] = [
            ("stage", "audit", f"on {self.held_out('test'):,} held-out rows, with 95% intervals")
        ]
        if len(self.dataset.targets) == 1:
            audit.append(("metrics", *self._metrics()))
        if second:
            audit.append(("gain", [first, second], "the first metric of the one less that of the other"))
        yield audit

    def _metrics(self) -> tuple[list[Any], str]:
        target = self.target
        assert target is not None
        if target.task == "regression":
            return ["rmse", "mae", "r2"], f"rmse in the units of {told(target.column)}"
        if target.task == "forecast":
            return ["scaled_mse", "scaled_mae"], "each column in units of its deviation"
        if target.task == "multilabel":
            return [
                "macro_f1",
                "micro_f1",
                "average_precision",
                "log_loss",
            ], "the first is what models are compared by"
        if self.unbalanced():
            recall = {"name": "recall_at_specificity", "specificity": 0.9}
            _, many = _ends(target)
            always = many / sum(target.counts)
            return ["balanced_accuracy", "auroc", recall, "macro_f1"], f"not accuracy: always saying the largest class has {always:.0%}"  # fmt: skip
        if len(target.classes) > 20:
            return [
                "accuracy",
                "top5_accuracy",
                "balanced_accuracy",
                "log_loss",
            ], f"{len(target.classes)} classes"
        return [
            "accuracy",
            "auroc",
            "log_loss",
            "balanced_accuracy",
        ], "the first is what models are compared by"

    # --- what is so

    def unbalanced(self) -> bool:
        if self.target is None or self.target.task != "classification":
            return False
        few, many = _ends(self.target)
        return many > _UNBALANCED * few

    def _validated(self) -> bool:
        """Whether there are, or would be, enough validation rows to stop by."""
        if self.target is None or self.few_labels or self.target.task == "text":
            return False
        if self.dataset.splits_given and "validation" in self.dataset.splits:
            return self.held_out("validation") >= _FEW_VALIDATED
        if self.target.task != "classification":
            return 0.1 * self.labelled >= _FEW_VALIDATED
        codes = np.repeat(np.arange(len(self.target.counts)), self.target.counts)
        return len(stratified(codes, {"validation": 0.1}, seed=0)["validation"]) >= _FEW_VALIDATED

    def steps(self, rows: int, epochs: int, batch: int) -> str:
        return f"{rows:,} rows: about {epochs * math.ceil(rows / batch):,} steps"


def _tells(target: Target) -> bool:
    """Whether there is something to be learned."""
    if target.task == "classification":
        return sum(n > 0 for n in target.counts) > 1
    return target.rows > 1


def _ends(target: Target | None) -> tuple[int, int]:
    """The fewest and the most rows of a class that has any."""
    counts = [n for n in target.counts if n] if target else []
    return min(counts, default=0), max(counts, default=0)


def epochs_of(rows: int, seen: int, least: int, most: int) -> int:
    """So many that about `seen` rows are looked at, within bounds."""
    return max(least, min(most, round(seen / max(1, rows))))


def batch_of(rows: int, most: int = 128) -> int:
    """A power of two with some twenty batches an epoch, from 8 on."""
    return min(most, 2 ** max(3, math.floor(math.log2(max(1, rows / 20)))))
