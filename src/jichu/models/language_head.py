"""The head of a language model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from jichu.core.errors import UsageError

from .backbone import Backbone, Features


class Language(nn.Module):
    """Scores of tokens: [n, V] at the n places that the batch asks for (`predicted`), row after row; [B, T, V]
    where it asks for none in particular.

    It owns no parameters: the backbone, whose embeddings are often the last layer too, is asked.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        if not hasattr(backbone, "logits"):
            raise UsageError(
                f"{type(backbone).__name__} is no language model",
                expected="a backbone such as llama-mini, or bert-mini",
            )
        # within a tuple it is no part of this module: not in the state dict, and copied along by a copy
        self._backbone: tuple[Any, ...] = (backbone,)

    def forward(self, features: Features) -> Tensor:
        hidden = features.sequence
        assert hidden is not None
        if features.predicted is not None:
            # by numbers and not by the mask: the gradient of that is added up by one thread alone
            places = features.predicted.flatten().nonzero()[:, 0]
            hidden = hidden.flatten(0, 1).index_select(0, places)
        return self._backbone[0].logits(hidden)
