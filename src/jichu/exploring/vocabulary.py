"""The words of the training texts, and which of them are near each other to a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from jichu.auditing.explaining.views.texts import embedding
from jichu.data.dataset import Dataset
from jichu.data.splits import evenly
from jichu.data.texts import ragged, text_of, to_read
from jichu.data.tokenizer import Tokenizer
from jichu.data.tokens import tokenise
from jichu.metrics.similarity import nearest
from jichu.models.model import Model

# letters and digits one after the other; signs, and characters of scripts without spaces, alone
WORD = re.compile(r"[^\W\u2e80-\U0003ffff]+(?:['’-][^\W\u2e80-\U0003ffff]+)*|\S")
_TEXTS, _BYTES, _SEEN, _MOST = (
    2000,
    10_000,
    2,
    5000,
)  # that are looked at; of each; how often a word has to come; words


class Vocabulary:
    """The words that come more than once in a sample of the training texts, with the means [W, D] of their tokens'
    vectors; none where a model looks no vectors up."""

    def __init__(self, dataset: Dataset, rows: Tensor, model: Model, tokenizer: Tokenizer):
        found = embedding(model.backbone)
        counted = Counter(_words(dataset, rows)) if found is not None else Counter[str]()
        self.words = [word for word, count in counted.most_common(_MOST) if count >= _SEEN]
        self._place = {word: i for i, word in enumerate(self.words)}
        if found is not None and self.words:
            table = found.weight.detach().float().cpu()
            ids = tokenise(ragged([f" {word}" for word in self.words]), tokenizer, None)
            self.vectors = np.stack([table[ids[i].long()].mean(0).numpy() for i in range(len(self.words))])

    def near(self, words: Iterable[str], most: int) -> dict[str, list[str]]:
        """By word those that are nearest to it by the cosine, but for itself; none of one that is not known."""
        found: dict[str, list[str]] = {word: [] for word in words}
        known = [word for word in found if word in self._place]
        if known:
            own = [self._place[word] for word in known]
            places, _ = nearest(self.vectors, self.vectors[own], most + 1)
            for word, mine, near in zip(known, own, places.tolist(), strict=True):
                found[word] = [self.words[i] for i in near if i != mine][:most]
        return found


def _words(dataset: Dataset, rows: Tensor) -> Iterator[str]:
    texts = to_read(dataset.texts, dataset.chat).values()
    for row in evenly(rows, _TEXTS).tolist():
        for text in texts:
            yield from (word for word in WORD.findall(text_of(text, row, _BYTES)) if word[0].isalpha())
