"""Texts, of which words are left out or are others."""

from __future__ import annotations

from typing import Any

from jichu.data.given import Inputs

from ..seen import Seen
from ..vocabulary import WORD
from .base import Changing
from .search import Edit

_NEAR = 3  # words that one may become


class Words(Changing):
    """Places are the words of a text, or of both of a pair. The first alternative is that a word is not there, the
    others are words of the training texts that are near it to the model."""

    def __init__(self, seen: Seen, texts: tuple[str, ...]):
        super().__init__(seen)
        self.texts = texts
        self.words = [(i, *match.span()) for i, text in enumerate(texts) for match in WORD.finditer(text)]
        self.others = [
            ["", *seen.vocabulary.near(texts[i][start:end], _NEAR)] for i, start, end in self.words
        ]

    def options(self) -> list[tuple[int, int]]:
        return [(place, other) for place, others in enumerate(self.others) for other in range(len(others))]

    def _made(self, edit: Edit) -> tuple[str, ...]:
        pieces = [(*self.words[place], self.others[place][other]) for place, other in edit.items()]
        return tuple(
            written(text, [(start, end, word) for t, start, end, word in pieces if t == i])
            for i, text in enumerate(self.texts)
        )

    def inputs(self, edits: list[Edit]) -> Inputs:
        texts = [self._made(edit) for edit in edits]
        return self.run.texts(
            [""] * len(edits), [list(column) for column in zip(*texts, strict=True)], told=False
        )

    def changes(self, edit: Edit) -> list[dict[str, Any]]:
        found = []
        for place in sorted(edit):
            i, start, end = self.words[place]
            about = {"text": i, "start": start, "end": end, "from": self.texts[i][start:end]}
            found.append({**about, "to": self.others[place][edit[place]]})
        return found

    def changed(self, edit: Edit) -> dict[str, Any]:
        return {"texts": list(self._made(edit))}


def written(text: str, pieces: list[tuple[int, int, str]]) -> str:
    """A text with other words in the place of some pieces (start, end, word); where that is "" without the space
    before it, or after it at the beginning."""
    for start, end, word in sorted(pieces, reverse=True):
        if not word and text[end : end + 1] in ("", " "):
            if text[:start].endswith(" "):
                start -= 1
            elif not start:
                end += 1
        text = text[:start] + word + text[end:]
    return text
