"""What recipes of images and of sounds share: networks are fitted, or pretrained first where labels are few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .draft import Draft, batch_of, epochs_of
from .lines import Key

_MOST_NUMBERS = 50_000_000  # rows × width from which logistic regression takes minutes


class MediaDraft(Draft):
    """A subclass says which network there is, why, and what stands beside it."""

    backbone: Any
    sight: str  # why that one
    looks: str  # the backbone that is no network,
    width: int  # and the numbers that a row is to it
    augment_means: str

    @property
    def result(self) -> str:
        return "pretrained" if self.few_labels else "network"

    @property
    def few_labels(self) -> bool:
        return self.target is not None and self.blind > 2 * self.labelled

    def target_line(self) -> Iterator[str]:
        if self.config.target is not None:
            yield from super().target_line()

    def stages(self) -> list[list[Key]]:
        if self.target is None:
            return [self._pretrain()]
        if self.few_labels:
            return self._from_few_labels()
        epochs = epochs_of(self.labelled, 200_000, 5, 60)
        stages = [[
            ("stage", "finetune", ""),
            ("name", "network", ""),
            ("backbone", self.backbone, self.sight),
            *self.objective(),
            ("augment", "auto", self.augment_means),
            ("optimizer", {"name": "adamw", "lr": 0.002, "weight_decay": 0.02}, "the rate first, if it does not learn"),
            *self.length(epochs, 6),
        ]]  # fmt: skip
        return [*stages, *self._baselines(False), *self.audit("network")]

    def _pretrain(self) -> list[Key]:
        epochs, batch = epochs_of(self.rows, 30_000, 5, 60), batch_of(self.rows)
        return [
            ("stage", "pretrain", "learns from all training rows, without labels"),
            ("backbone", self.backbone, self.sight),
            ("objective", "vicreg", "two views of a row are to be told alike, all others apart"),
            ("augment", "auto", self.augment_means),
            ("budget", f"{epochs} epochs", self.steps(self.rows, epochs, batch)),
            ("batch_size", max(2, batch), f"of {self.rows:,} rows"),
            ("optimizer", {"name": "adamw", "lr": 0.004, "weight_decay": 0.0001}, ""),
        ]

    def _from_few_labels(self) -> list[list[Key]]:
        assert self.target is not None
        head = "ridge" if self.target.task == "regression" else "logistic-regression"
        few = f"{self.labelled:,} of {self.rows:,} training rows have a label"
        batch = batch_of(self.labelled)
        return [
            self._pretrain(),
            [("stage", "finetune", few),
             ("name", "pretrained", ""),
             ("from", "pretrain", ""),
             ("head", head, "estimated at once, on the features of the frozen backbone"),
             ("adapt", "head", "too few labels to move the backbone")],
            [("stage", "finetune", "the same network without pretraining: what does that bring?"),
             ("name", "scratch", ""),
             ("backbone", self.backbone, ""),
             *self.objective(),
             ("augment", "auto", ""),
             ("budget", "250 steps", f"each labelled row some {max(1, 250 * batch // self.labelled):,} times"),
             ("batch_size", batch, ""),
             ("optimizer", {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}, "")],
            *self._baselines(True),
            *self.audit("pretrained", "scratch"),
        ]  # fmt: skip

    def _baselines(self, several: bool) -> Iterator[list[Key]]:
        """What pixels, or the bands of a spectrogram, alone give: a network must beat it to be worth its time."""
        assert self.target is not None
        quick = self.labelled * self.width <= _MOST_NUMBERS
        heads = {"regression": ["ridge"], "multilabel": ["logistic-regression"] if quick else []}.get(
            self.target.task,
            ["logistic-regression", "naive-bayes"][0 if quick else 1 : 2 if several or not quick else 1],
        )
        for head in heads:
            yield [
                ("stage", "finetune", "no network at all: what is to be beaten"),
                ("name", head.replace("-", "_"), ""),
                ("backbone", self.looks, f"{self.width:,} numbers"),
                self.head(head),
                ("adapt", "head", "nothing else is there to fit"),
            ]
