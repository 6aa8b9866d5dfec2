"""A first recipe for somebody's data: commented, fitted to what was found in them, and meant to be edited."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.config import dump_yaml
from jichu.core.errors import DataError, UsageError
from jichu.data.config import DataConfig
from jichu.data.dataset import Dataset
from jichu.data.decode import Preprocess
from jichu.data.schema import LABEL
from jichu.data.sound import Sound
from jichu.data.splits import stratified
from jichu.data.target import Target

_UNBALANCED = 5  # times as many rows of one class as of another, from which classes are weighed
_MOST_PIXELS = 50_000_000  # rows × pixels from which logistic regression takes minutes
_FEW_VALIDATED = 10  # rows below which a validation loss says too little to stop by
_GROUP = re.compile(
    r"(.*[_\s.-])?(patient|subject|person|user|customer|client|family|household|group|session|site|device"
    r"|speaker|author|scene|video|sample|donor|animal)s?([_\s.-]?(id|no|nr|number|code))?",
    re.IGNORECASE,
)
_KEY = re.compile(r"(.*[_\s.-])?id|.*[a-z]I[dD]", re.IGNORECASE)

Key = tuple[str, Any, str]  # a key of the recipe, its value, and why


def draft(dataset: Dataset, found: dict[str, Any], config: DataConfig) -> str:
    """The text of a recipe for data, from what `data.inspection.inspect` found in them.

    Images and sounds with labels are fitted, those of which most have none are pretrained on first, those without
    any only so; tables get a linear model, boosted trees and two networks. UsageError where it is not
    clear what is to be predicted.
    """
    return "\n".join(_Draft(dataset, found, config).lines()) + "\n"


class _Draft:
    def __init__(self, dataset: Dataset, found: dict[str, Any], config: DataConfig):
        self.dataset, self.found, self.config = dataset, found, config
        train = dataset.splits["train"]
        labelled = dataset.labelled("train")
        about = dataset.about_targets(labelled).get(LABEL)
        if about is not None and not _tells(about):
            if dataset.kind == "table":
                raise DataError(
                    f"{about.column} is the same in every labelled row", where="--target",
                    expected="a column with two different values at least",
                )  # fmt: skip
            about = None
        if about is None and dataset.kind != "text":
            self._ask()
        self.target = about
        self.rows, self.labelled = len(train), len(labelled) if about else 0
        self.blind = self.rows - self.labelled
        self.measurable = about is not None and self._held_out("test") > 0

    def _ask(self) -> None:
        """UsageError where there are columns that could be predicted."""
        columns = self.found["columns"]
        named = [c["name"] for c in columns if c["type"] in ("number", "category", "tags")]
        if named:
            raise UsageError(
                f"which column of {self.found['source']} is to be predicted is not clear",
                where="--target", expected=f"one of {', '.join(named)}",
            )  # fmt: skip
        if self.dataset.kind == "table":
            raise DataError(f"no column of {self.found['source']} can be predicted")

    def _held_out(self, split: str) -> int:
        return len(self.dataset.labelled(split)) if split in self.dataset.splits else 0

    # --- what is written

    def lines(self) -> Iterator[str]:
        yield f"# Written by jichu init for {_told(self.found['source'])}: {self._what()}."
        yield "# A beginning, to be edited: every key can be changed, and what is left out has a default."
        if self.found["remarks"]:
            yield "#"
            yield "# Before you train:"
            yield from (f"#   - {_told(remark, 300)}" for remark in self.found["remarks"])
        yield ""
        yield _line(("name", _name(self.config.path), "of the folder in runs/"))
        yield _line(("seed", 0, "splits, weights and batches follow from it"))
        yield "data:"
        yield from ("  " + line for line in self._data())
        yield "stages:"
        made = {
            "image": self._media_stages, "audio": self._media_stages, "text": self._text_stages,
            "table": self._table_stages, "series": self._series_stages,
        }  # fmt: skip
        stages = made[self.dataset.kind]()
        for stage in [[("stage", "inspect", "writes data.html: look at it first")], *stages]:
            yield from ("    " + _line(key) if i else "  - " + _line(key) for i, key in enumerate(stage))
        if self.target and not self.measurable:
            yield "  # no audit: no labelled row is held out, so that nothing could be measured"
        if self.target:
            chosen = {"table": "boosting", "text": "writer" if self._writes() else "pretrained"}.get(
                self.dataset.kind, "pretrained" if self._few_labels() else "network"
            )
            yield _line(("result", chosen, "whose model is the run's; the report says which is best"))

    def _what(self) -> str:
        p, target = self.dataset.preprocess, self.target
        kind = {"image": "images", "audio": "sounds", "text": "texts", "table": "rows", "series": "windows"}[
            self.dataset.kind
        ]
        if isinstance(p, Preprocess):
            kind += f", stored as {p.size}×{p.size}"
        elif p is not None:
            kind += f", stored as {p.seconds:g} s at {p.rate:,} Hz"
        if self.dataset.chat:
            kind = "conversations"
        told = f"{self.found['rows']:,} {kind}"
        if self._writes():
            return told + ", to learn the answers of"
        if target is None:
            return told + ", without labels"
        if target.task == "forecast":
            return f"{told}; the next {target.steps} steps of {_told(target.column)}"
        if target.task == "regression":
            return f"{told}; {_told(target.column)} is a number, {target.mean:.4g} ± {target.std:.4g}"
        few, many = _ends(target)
        each = f"{few:,} to {many:,}" if few < many else f"{few:,}"
        return f"{told}; {len(target.classes)} classes, {each} training rows each"

    def _data(self) -> Iterator[str]:
        config = self.config
        yield _line(("path", config.path, ""))
        given = config.model_dump(exclude_unset=True, exclude_defaults=True)
        for key, value in given.items():
            if key not in ("path", "target", "split"):
                yield _line((key, value, "as you said"))
        if self.target:
            columns = [c for t in self.dataset.targets.values() for c in t.series or (t.column,)]
            named = columns[0] if len(columns) == 1 else columns
            why = {
                "classification": "its values are classes", "regression": "a number", "multilabel": "tags",
                "text": "a text to be written", "forecast": "what is told of them comes next",
            }  # fmt: skip
            if not (self.dataset.preprocess is not None and config.target is None):
                yield _line(("target", named, why[self.target.task]))
        if self.found["images"] and "size" not in given:
            low, middle, high = self.found["images"]["height"]
            files = f"{low} to {high} high, half of them below {middle}" if low < high else f"{low} high"
            yield _line(
                ("size", self.found["preprocess"]["size"], f"pixels of a side; the files are {files}")
            )
        if isinstance(self.dataset.preprocess, Sound):
            sound, low, high = self.dataset.preprocess, *(self.found["sounds"]["seconds"][i] for i in (0, 2))
            if "rate" not in given:
                yield _line(
                    ("rate", sound.rate, "samples a second; the files say so of most sounds, up to 16,000")
                )
            if "seconds" not in given:
                yield _line(
                    ("seconds", sound.seconds, f"of a sound; the files are {low:.2f} to {high:.2f} long")
                )
        yield from self._split()
        yield from self._columns()

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
        told = [] if given.group or given.time else list(self._split_hints())
        if shares:
            yield "split:"
            yield from ("  " + _line(share) for share in shares)
        elif self.dataset.splits_given:
            yield f"# the splits are those of the source: {', '.join(sorted(have))}"
        yield from ("  " + line for line in (told if shares else []))

    def _split_hints(self) -> Iterator[str]:
        if self.dataset.splits_given or self.dataset.kind == "series":
            return
        for c in self.found["columns"]:
            distinct, name = c.get("distinct", 0), c["name"]
            several = 4 < distinct <= self.found["rows"] / 2
            named = _GROUP.fullmatch(name) or (_KEY.fullmatch(name) and c["type"] != "ignored")
            if several and named and not c["role"].startswith("target"):
                each = self.found["rows"] / distinct
                yield _hint(
                    "group", name, f"{distinct:,} values, {each:.1f} rows each: keep them in one split?"
                )
            if c["type"] == "timestamp" and distinct > 10:
                yield _hint("time", name, "hold out the latest rows, if it is the future that is predicted")

    def _columns(self) -> Iterator[str]:
        """The types as comments, and what to think about twice."""
        if self.dataset.kind != "table":
            return
        leaks = {f["column"].partition(":")[0]: f for f in self.found["leakage"]}
        yield "# columns:  # what was found; take the marks away from a line to change it"
        for c in self.found["columns"]:
            if c["role"] != "input" and c["role"] != "not used":
                continue
            name, kind, why = c["name"], c["type"], _holds(c, self.found["rows"])
            if c["role"] == "not used":
                kind, why = "ignore" if kind == "ignored" else kind, f"not used: {c['note']}"
            elif name in leaks:
                kind, why = (
                    "ignore",
                    f"leaks? {leaks[name]['measure']} {leaks[name]['score']:.3f} by itself; {why}",
                )
            elif kind == "category" and c["distinct"] > self.found["rows"] / 2:
                kind, why = "ignore", f"nearly one of its own in every row; {why}"
            yield _hint("  " + dump_yaml(name, inline=True), kind, why, quoted=True)

    # --- stages

    def _media_stages(self) -> list[list[Key]]:
        p = self.dataset.preprocess
        backbone: Any = {"name": "resnet9", "base": 16}
        sight = "small and quick, over a spectrogram; wav2vec2-mini hears the waves themselves"
        if isinstance(p, Preprocess):
            backbone = backbone if p.size >= 16 else "cnn"
            sight = f"small and quick, for images of {p.size} pixels; resnet18 if there is a GPU"
        if self.target is None:
            return [self._pretrain(backbone, sight)]
        if self._few_labels():
            return self._from_few_labels(backbone, sight)
        epochs = _epochs(self.labelled, 200_000, 5, 60)
        stages = [[
            ("stage", "finetune", ""),
            ("name", "network", ""),
            ("backbone", backbone, sight),
            *self._objective(),
            ("augment", "auto", self._augment_means()),
            ("optimizer", {"name": "adamw", "lr": 0.002, "weight_decay": 0.02}, "the rate first, if it does not learn"),
            *self._length(epochs, 6),
        ]]  # fmt: skip
        return [*stages, *self._baselines(False), *self._audit("network")]

    def _pretrain(self, backbone: Any, sight: str) -> list[Key]:
        epochs = _epochs(self.rows, 30_000, 5, 60)
        return [
            ("stage", "pretrain", "learns from all training rows, without labels"),
            ("backbone", backbone, sight),
            ("objective", "vicreg", "two views of a row are to be told alike, all others apart"),
            ("augment", "auto", self._augment_means()),
            ("budget", f"{epochs} epochs", self._steps(self.rows, epochs, _batch(self.rows))),
            ("batch_size", max(2, _batch(self.rows)), f"of {self.rows:,} rows"),
            ("optimizer", {"name": "adamw", "lr": 0.004, "weight_decay": 0.0001}, ""),
        ]

    def _from_few_labels(self, backbone: Any, sight: str) -> list[list[Key]]:
        assert self.target is not None
        head = "ridge" if self.target.task == "regression" else "logistic-regression"
        few = f"{self.labelled:,} of {self.rows:,} training rows have a label"
        batch = _batch(self.labelled)
        return [
            self._pretrain(backbone, sight),
            [("stage", "finetune", few),
             ("name", "pretrained", ""),
             ("from", "pretrain", ""),
             ("head", head, "estimated at once, on the features of the frozen backbone"),
             ("adapt", "head", "too few labels to move the backbone")],
            [("stage", "finetune", "the same network without pretraining: what does that bring?"),
             ("name", "scratch", ""),
             ("backbone", backbone, ""),
             *self._objective(),
             ("augment", "auto", ""),
             ("budget", "250 steps", f"each labelled row some {max(1, 250 * batch // self.labelled):,} times"),
             ("batch_size", batch, ""),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}, "")],
            *self._baselines(True),
            *self._audit("pretrained", "scratch"),
        ]  # fmt: skip

    def _baselines(self, several: bool) -> Iterator[list[Key]]:
        """What pixels, or the bands of a spectrogram, alone give: a network must beat it to be worth its time."""
        assert self.target is not None
        p, task = self.dataset.preprocess, self.target.task
        width, looks = 320, "bands"
        if isinstance(p, Preprocess):
            width, looks = p.channels * p.size**2, "pixels"
        quick = self.labelled * width <= _MOST_PIXELS
        heads = {"regression": ["ridge"], "multilabel": ["logistic-regression"] if quick else []}.get(
            task, ["logistic-regression", "naive-bayes"][0 if quick else 1 : 2 if several or not quick else 1]
        )
        for head in heads:
            yield [
                ("stage", "finetune", "no network at all: what is to be beaten"),
                ("name", head.replace("-", "_"), ""),
                ("backbone", looks, f"{width:,} numbers"),
                ("head", self._weighed(head), self._weighed_why(head)),
                ("adapt", "head", "nothing else is there to fit"),
            ]

    def _series_stages(self) -> list[list[Key]]:
        epochs = _epochs(self.rows, 100_000, 3, 30)
        return [
            [("stage", "finetune", "the last season again: what is to be beaten"),
             ("name", "naive", ""),
             ("head", "seasonal-naive", "its period is found on the training rows")],
            [("stage", "finetune", "one linear map for all columns, estimated at once"),
             ("name", "linear", ""),
             ("head", "linear-forecast", "hard to beat")],
            [("stage", "finetune", "a transformer over patches of each column"),
             ("name", "network", ""),
             ("backbone", {"name": "patchtst", "width": 32}, "lstm, gru and mlp read all columns together"),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}, ""),
             *self._length(epochs, 4)],
            *self._audit("network", "naive"),
        ]  # fmt: skip

    def _writes(self) -> bool:
        return self.dataset.chat or (self.target is not None and self.target.task == "text")

    def _text_stages(self) -> list[list[Key]]:
        measured: list[Key] = [("stage", "audit", "on held-out texts, with 95% intervals")]
        held_out = [measured] if "test" in self.dataset.splits else []
        if self._writes():
            return [
                [("stage", "finetune", "learns to write the answers, from nothing; `from` a pretrained run is better"),
                 ("name", "writer", ""),
                 ("backbone", "llama-mini", "3 million parameters; t5-mini reads questions and writes apart"),
                 ("budget", f"{_epochs(self.rows, 20_000, 3, 40)} epochs", ""),
                 ("batch_size", min(32, _batch(self.rows)), ""),
                 ("optimizer", {"name": "adamw", "lr": 0.0005, "weight_decay": 0.01}, "")],
                *held_out,
            ]  # fmt: skip
        if self.target is None:
            return [
                [("stage", "pretrain", "learns to go on with the texts: jichu generate writes some"),
                 ("backbone", "llama-mini", "3 million parameters; bert-mini to classify texts afterwards"),
                 ("objective", "causal", "each token is predicted from those before it"),
                 ("budget", "15m", "longer is better, until the loss on held-out texts rises"),
                 ("batch_size", 16, ""),
                 ("optimizer", {"name": "muon", "lr": 0.003}, ""),
                 ("clip", 1.0, "")],
                *held_out,
            ]  # fmt: skip
        epochs = _epochs(self.labelled, 100_000, 3, 30)
        rate = {"name": "adamw", "lr": 0.0005, "weight_decay": 0.01}
        return [
            [("stage", "pretrain", "learns from all training texts, without labels"),
             ("backbone", "bert-mini", "4 layers of width 256"),
             ("objective", {"name": "masked", "whole_words": True}, "words are to be told from those around them"),
             ("budget", f"{_epochs(self.rows, 150_000, 3, 40)} epochs", ""),
             ("batch_size", min(64, _batch(self.rows)), "windows of packed texts"),
             ("optimizer", {**rate, "lr": 0.001}, "")],
            [("stage", "finetune", f"{self.labelled:,} of {self.rows:,} training texts have a label"),
             ("name", "pretrained", ""),
             ("from", "pretrain", ""),
             *self._objective(),
             ("optimizer", rate, ""),
             *self._length(epochs, 5)],
            *([("stage", "finetune", "no network: what is to be beaten"),
               ("name", name, ""),
               ("backbone", backbone, "a bag of tokens"),
               ("head", self._weighed(head), self._weighed_why(head))]
              for name, backbone, head in (
                  ("tf_idf", {"name": "words", "weighting": "tf-idf"}, "logistic-regression"),
                  ("naive_bayes", "words", "naive-bayes"))),
            *self._audit("pretrained", "tf_idf"),
        ]  # fmt: skip

    def _table_stages(self) -> list[list[Key]]:
        assert self.target is not None
        linear = "ridge" if self.target.task == "regression" else "logistic-regression"
        boosting = {"name": "gradient-boosting", "trees": 300, "learning_rate": 0.05, "patience": 20}
        mlp = {"name": "mlp", "widths": [256, 256], "dropout": 0.2, "norm": "batch", "numeric": "periodic"}
        transformer = {"name": "ft-transformer", "depth": 2, "width": 64, "heads": 4}
        return [
            [("stage", "finetune", "the baseline: numbers and one-hot categories"),
             ("name", "linear", ""),
             ("head", self._weighed(linear), self._weighed_why(linear))],
            [("stage", "finetune", "on tables hard to beat; takes gaps and categories as they are"),
             ("name", "boosting", ""),
             ("head", self._weighed(boosting), "stops after 20 trees without gain")],
            [("stage", "finetune", "each number spread over sines, each category a vector"),
             ("name", "mlp", ""),
             ("backbone", mlp, "norm: none if batches become very small"),
             *self._objective(),
             ("optimizer", {"name": "adamw", "lr": 0.002, "weight_decay": 0.02}, ""),
             *self._length(_epochs(self.labelled, 400_000, 4, 100), 8)],
            [("stage", "finetune", "attention over the columns; the slowest of the four"),
             ("name", "ft_transformer", ""),
             ("backbone", transformer, "small; more width and depth want more rows"),
             *self._objective(),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.00001}, ""),
             *self._length(_epochs(self.labelled, 200_000, 2, 50), 5)],
            *self._audit("boosting", "linear"),
        ]  # fmt: skip

    def _objective(self) -> Iterator[Key]:
        if self._unbalanced():
            few, many = _ends(self.target)
            weights = {"name": "classification", "class_weights": "balanced"}
            yield "objective", weights, f"{few:,} to {many:,} rows a class: each class counts alike"

    def _weighed(self, head: Any) -> Any:
        """The head with balanced classes, where it can weigh them and they want it."""
        named = {"name": head} if isinstance(head, str) else head
        if self._unbalanced() and named["name"] in ("logistic-regression", "gradient-boosting"):
            return {**named, "class_weights": "balanced"}
        return head

    def _weighed_why(self, head: Any) -> str:
        return "" if self._weighed(head) == head else "each class counts alike"

    def _length(self, epochs: int, patience: int) -> Iterator[Key]:
        batch = _batch(self.labelled)
        yield "budget", f"{epochs} epochs", self._steps(self.labelled, epochs, batch)
        yield "batch_size", batch, f"of {self.labelled:,} labelled rows"
        if self._validated():
            yield "patience", patience, "stops after so many epochs without gain on the validation rows"

    def _audit(self, first: str, second: str = "") -> Iterator[list[Key]]:
        if not self.measurable:
            return
        assert self.target is not None
        audit: list[Key] = [
            ("stage", "audit", f"on {self._held_out('test'):,} held-out rows, with 95% intervals")
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
            return ["rmse", "mae", "r2"], f"rmse in the units of {_told(target.column)}"
        if target.task == "forecast":
            return ["scaled_mse", "scaled_mae"], "each column in units of its deviation"
        if target.task == "multilabel":
            return [
                "macro_f1",
                "micro_f1",
                "average_precision",
                "log_loss",
            ], "the first is what models are compared by"
        if self._unbalanced():
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

    def _unbalanced(self) -> bool:
        if self.target is None or self.target.task != "classification":
            return False
        few, many = _ends(self.target)
        return many > _UNBALANCED * few

    def _few_labels(self) -> bool:
        """Whether most images have no label, so that there is something to pretrain on."""
        several = self.dataset.preprocess is not None and self.target is not None
        return several and self.blind > 2 * self.labelled

    def _validated(self) -> bool:
        """Whether there are, or would be, enough validation rows to stop by."""
        if self.target is None or self._few_labels() or self.target.task == "text":
            return False
        if self.dataset.splits_given and "validation" in self.dataset.splits:
            return self._held_out("validation") >= _FEW_VALIDATED
        if self.target.task != "classification":
            return 0.1 * self.labelled >= _FEW_VALIDATED
        codes = np.repeat(np.arange(len(self.target.counts)), self.target.counts)
        return len(stratified(codes, {"validation": 0.1}, seed=0)["validation"]) >= _FEW_VALIDATED

    def _augment_means(self) -> str:
        p = self.dataset.preprocess
        if not isinstance(p, Preprocess):
            return "moved, faster or slower, louder or softer, parts hidden"
        if p.channels == 3:
            return "in colour: mirrored, cropped, recoloured"
        return "grey: turned, shifted, scaled, not mirrored"

    def _steps(self, rows: int, epochs: int, batch: int) -> str:
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


def _epochs(rows: int, seen: int, least: int, most: int) -> int:
    """So many that about `seen` rows are looked at, within bounds."""
    return max(least, min(most, round(seen / max(1, rows))))


def _batch(rows: int, most: int = 128) -> int:
    """A power of two with some twenty batches an epoch, from 8 on."""
    return min(most, 2 ** max(3, math.floor(math.log2(max(1, rows / 20)))))


def _holds(column: dict[str, Any], rows: int) -> str:
    """What a column holds, in some words."""
    if "low" in column:
        low, high = (v if isinstance(v, str) else f"{v:.4g}" for v in (column["low"], column["high"]))
        told = f"{low} to {high}"
    else:
        told = f"{column.get('distinct', 0):,} values: " + ", ".join(
            name for name, _ in column.get("top", [])[:3]
        )
    missing = column.get("missing", 0)
    share = missing / max(1, rows)
    return told + (f"; {f'{share:.0%}' if share > 0.005 else 'under 1%'} missing" if missing else "")


def _name(path: str) -> str:
    """What a run of these data may be called."""
    last = path.rstrip("/\\").replace("\\", "/").rpartition("/")[2].removeprefix("sklearn:")
    stem = re.sub(r"\.(csv|tsv|jsonl?|parquet|txt)(\.gz)?$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:60] or "recipe"


def _line(key: Key) -> str:
    name, value, why = key
    return f"{dump_yaml(name, inline=True)}: {dump_yaml(value, inline=True)}" + (
        f"  # {_told(why, 200)}" if why else ""
    )


def _hint(name: str, value: str, why: str, quoted: bool = False) -> str:
    """A line that is only a proposal."""
    written = name if quoted else dump_yaml(name, inline=True)
    return f"# {written}: {dump_yaml(value, inline=True)}  # {_told(why, 200)}"


def _told(text: str, most: int = 80) -> str:
    """As it can stand in a comment: on one line, printable, not too long."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def refuse_existing(path: Path, force: bool = False) -> None:
    """UsageError where a file is there already, unless it is to be replaced."""
    if path.exists() and not force:
        raise UsageError(
            f"{path} is there already", where="-o", expected="another file, or --force to replace it"
        )
