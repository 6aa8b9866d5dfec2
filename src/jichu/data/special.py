"""What a model must know of the texts it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field

_Id = Annotated[int, Field(ge=0)] | None


class Special(NamedTuple):
    """Ids of the tokens that stand for no text, None where there is none. BERT's begin and end are [CLS] and
    [SEP]."""

    pad: _Id = None
    unknown: _Id = None
    mask: _Id = None
    begin: _Id = None
    end: _Id = None


@dataclass(frozen=True)
class TextInputs:
    """The tokens that a model is given; the tokenizer itself lies beside the model, in files of its own.

    `context` is the most tokens of a row, or of each of its `windows`, of which a longer text has so many at
    most; `template` says which special tokens are put around a text, and `pair` that a row holds two texts.
    `columns` are those of a table that they were read from.
    """

    vocabulary: Annotated[int, Field(ge=1)]
    context: Annotated[int, Field(ge=1)]
    special: Special = field(default_factory=Special)
    template: str = ""
    pair: bool = False
    chat: bool = False
    windows: Annotated[int, Field(ge=1)] = 1
    columns: tuple[str, ...] = ()
