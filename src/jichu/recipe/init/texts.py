"""A recipe of texts: to be written, classified, or gone on with."""

from __future__ import annotations

from typing import Any

from .draft import Draft, batch_of, epochs_of
from .lines import Key


class TextsDraft(Draft):
    """Texts, or conversations."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.rows_are = "conversations" if self.dataset.chat else "texts"

    @property
    def writes(self) -> bool:
        """Whether answers are to be written."""
        return self.dataset.chat or (self.target is not None and self.target.task == "text")

    @property
    def result(self) -> str:
        return "writer" if self.writes else "pretrained"

    def ask(self) -> None:
        """Texts alone are enough to go on with."""

    def what(self) -> str:
        return "to learn the answers of" if self.writes else super().what()

    def stages(self) -> list[list[Key]]:
        measured: list[Key] = [("stage", "audit", "on held-out texts, with 95% intervals")]
        held_out = [measured] if "test" in self.dataset.splits else []
        if self.writes:
            return [
                [("stage", "finetune", "learns to write the answers, from nothing; `from` a pretrained run is better"),
                 ("name", "writer", ""),
                 ("backbone", "llama-mini", "3 million parameters; t5-mini reads questions and writes apart"),
                 ("budget", f"{epochs_of(self.rows, 20_000, 3, 40)} epochs", ""),
                 ("batch_size", min(32, batch_of(self.rows)), ""),
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
        epochs = epochs_of(self.labelled, 100_000, 3, 30)
        rate = {"name": "adamw", "lr": 0.0005, "weight_decay": 0.01}
        return [
            [("stage", "pretrain", "learns from all training texts, without labels"),
             ("backbone", "bert-mini", "4 layers of width 256"),
             ("objective", {"name": "masked", "whole_words": True}, "words are to be told from those around them"),
             ("budget", f"{epochs_of(self.rows, 150_000, 3, 40)} epochs", ""),
             ("batch_size", min(64, batch_of(self.rows)), "windows of packed texts"),
             ("optimizer", {**rate, "lr": 0.001}, "")],
            [("stage", "finetune", f"{self.labelled:,} of {self.rows:,} training texts have a label"),
             ("name", "pretrained", ""),
             ("from", "pretrain", ""),
             *self.objective(),
             ("optimizer", rate, ""),
             *self.length(epochs, 5)],
            *([("stage", "finetune", "no network: what is to be beaten"),
               ("name", name, ""),
               ("backbone", backbone, "a bag of tokens"),
               self.head(head)]
              for name, backbone, head in (
                  ("tf_idf", {"name": "words", "weighting": "tf-idf"}, "logistic-regression"),
                  ("naive_bayes", "words", "naive-bayes"))),
            *self.audit("pretrained", "tf_idf"),
        ]  # fmt: skip
