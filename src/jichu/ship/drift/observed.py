"""What rows look like before they are compared: columns of numbers and categories."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jichu.data.language import LANGUAGES, UNKNOWN, language
from jichu.data.schema import TableSchema
from jichu.data.source import Column
from jichu.data.target import Target

NEW_WORDS, CONFIDENCE = "new words", ", confidence"  # the latter after the name of what is predicted
_WORD = re.compile(r"[\u3400-\u9fff\u3040-\u30ff]|[^\W\d_\u3400-\u9fff\u3040-\u30ff]+")
_TAGS = 20  # of which each is looked at by itself
_CHARACTERS = 5000  # of a text that are looked at


def words_of(text: str) -> list[str]:
    """The words of a text in small letters; of Chinese and Japanese the characters."""
    return _WORD.findall(text[:_CHARACTERS].lower())


def of_texts(texts: Sequence[str], known: Collection[str]) -> dict[str, Column]:
    """Of each text its characters, the share of its words that are not `known`, and the language."""
    lengths = np.array([len(text) for text in texts], np.float64)
    found = [words_of(text) for text in texts]
    new = np.array(
        [np.nan if not words else sum(w not in known for w in words) / len(words) for words in found]
    )
    classes = (*LANGUAGES, UNKNOWN)
    codes = {name: i for i, name in enumerate(classes)}
    told = np.array([codes[language(text)] for text in texts], np.int64)
    return {
        "length": Column("number", lengths), NEW_WORDS: Column("number", new), "language": Column("category", told, classes),
    }  # fmt: skip


def of_table(
    table: TableSchema, tensors: Mapping[str, Any], columns: Mapping[str, Column] | None = None
) -> dict[str, Column]:
    """The columns of a table as a model reads them, but for times, which never stay as they are. Categories that it does not
    know are those of `columns`, as they came."""
    found = {name: table.decode(name, tensors) for name in table.numbers}
    for name in table.categories:
        found[name] = columns[name] if columns and name in columns else table.decode(name, tensors)
    return found


def of_scores(targets: Mapping[str, Target], scores: Mapping[str, np.ndarray]) -> dict[str, Column]:
    """What was predicted: the likeliest class and how likely it was, the probability of each tag, the number."""
    found: dict[str, Column] = {}
    for key, values in scores.items():
        target = targets[key]
        if target.task == "classification":
            found[target.column] = Column("category", values.argmax(1), target.classes)
            found[target.column + CONFIDENCE] = Column("number", values.max(1).astype(np.float64))
        elif target.task == "multilabel":
            for i, tag in enumerate(target.classes[:_TAGS]):
                found[f"{target.column}: {tag}"] = Column("number", values[:, i].astype(np.float64))
        elif target.task == "regression":
            found[target.column] = Column("number", values[:, target.point].astype(np.float64))
    return found
