"""Texts, of which words are left out or are others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from jichu.data.given import Inputs
from jichu.data.tokens import Tokens

from ..seen import Seen
from ..vocabulary import WORD
from .base import Changing
from .search import Edit

if TYPE_CHECKING:
    from jichu.runs import Run

_NEAR = 3  # words that one may become
_MARGIN = 16  # tokens, for the last ones may be others where a text is cut


class Words(Changing):
    """Places are the words of a text, or of both of a pair, as far as there is room for them in the model. The first
    alternative is that a word is not there, the others are words of the training texts that are near it to the model."""

    def __init__(self, seen: Seen, texts: tuple[str, ...]):
        self.texts, self.reach = texts, _reach(seen.run, texts)
        super().__init__(
            seen, sum(len(text[reach.near]) for text, reach in zip(texts, self.reach, strict=True))
        )
        self.words = [
            (i, *match.span())
            for i, (start, end, near) in enumerate(self.reach)
            for match in WORD.finditer(texts[i], near.start, near.stop)
            if match.start() < end and match.end() > start
        ]
        said = [texts[i][start:end] for i, start, end in self.words]
        near = seen.vocabulary.near(said, _NEAR)
        self.others = [["", *near[word]] for word in said]

    def options(self) -> list[tuple[int, int]]:
        return [(place, other) for place, others in enumerate(self.others) for other in range(len(others))]

    def _made(self, edit: Edit) -> tuple[str, ...]:
        return self._written(edit, [slice(0, len(text)) for text in self.texts])

    def _read(self, edit: Edit) -> tuple[str, ...]:
        """Of what is made what the model may read."""
        return self._written(edit, [reach.near for reach in self.reach])

    def _written(self, edit: Edit, parts: list[slice]) -> tuple[str, ...]:
        pieces = [(*self.words[place], self.others[place][other]) for place, other in edit.items()]
        return tuple(
            written(
                text[part], [(a - part.start, b - part.start, word) for t, a, b, word in pieces if t == i]
            )
            for i, (text, part) in enumerate(zip(self.texts, parts, strict=True))
        )

    def inputs(self, edits: list[Edit]) -> Inputs:
        texts = [self._read(edit) for edit in edits]
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


class _Reach(NamedTuple):
    """From where to where there is room for a text in the model; and `near` that, what might move up."""

    start: int
    end: int
    near: slice


def _reach(run: Run, texts: tuple[str, ...]) -> list[_Reach]:
    tokens = run.texts([""], [[text] for text in texts], told=False).tensors["tokens"]
    assert isinstance(tokens, Tokens)
    found = []
    for text, kept in zip(texts, tokens.kept(torch.tensor([0])), strict=False):
        spans, whole = run.tokenizer.spans(text), slice(0, len(text))
        most = 2 * int(kept) + _MARGIN  # were all of the first half left out, the second would be read
        if len(spans) == kept:
            found.append(_Reach(0, len(text), whole))
        elif not kept:
            found.append(_Reach(0, 0, whole))
        elif tokens.side == "left":
            near = slice(spans[-most:][0][0], len(text))
            found.append(_Reach(spans[-int(kept)][0], len(text), near))
        else:
            found.append(_Reach(0, spans[int(kept) - 1][1], slice(0, spans[:most][-1][1])))
    if len(texts) == 1:
        return found
    # which text of a pair is cut, and where, depends on how long both are
    return [reach._replace(near=slice(0, len(text))) for reach, text in zip(found, texts, strict=True)]


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
