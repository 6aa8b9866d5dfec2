"""What people read, in English or Chinese: sentences stand in English where they are said, and a catalogue (`chinese.py`)
has their translations, as gettext does it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import string
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal

from .errors import UsageError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # in gettext's order
_spoken: ContextVar[Language | None] = ContextVar("language", default=None)


def language() -> Language:
    """The one that is spoken: the one that was chosen, or that of the environment, English if that is another."""
    return _spoken.get() or _of_environment()


@contextlib.contextmanager
def speaking(chosen: str | None) -> Iterator[None]:
    """Speak a language while the block runs; None leaves it as it is. UsageError where there is no catalogue of it."""
    if chosen is not None and chosen not in LANGUAGES:
        raise UsageError(f"no language {chosen!r}", expected=f"one of {', '.join(LANGUAGES)}")
    before = _spoken.set(chosen or _spoken.get())
    try:
        yield
    finally:
        _spoken.reset(before)


def words(template: str, /, **values: Any) -> str:
    """A sentence in the language that is spoken, its {placeholders} filled: `words("{rows:,} held-out rows", rows=5)`."""
    return translated(template).format(**values)


def translated(template: str) -> str:
    """A sentence in the language that is spoken, its {placeholders} left as they are."""
    return _catalogue("SENTENCES").get(template, template)


def named(name: str) -> str:
    """What people call a metric, a rate, a split: `log_loss` is log loss. Names of their own they find as they wrote them."""
    return _catalogue("NAMES").get(name, name.replace("_", " "))


def retold(text: str) -> str:
    """A sentence that stands in a file in English, as `audit.json` has some, in the language that is spoken."""
    known = _catalogue("KEPT")
    if not known or text in known:
        return known.get(text, text)
    for pattern, translation in _patterns():
        if match := pattern.fullmatch(text):
            return translation.format(**{name: retold(held) for name, held in match.groupdict().items()})
    pieces = text.split(", ")  # as lists are written
    return ", ".join(map(retold, pieces)) if len(pieces) > 1 else text


def _of_environment() -> Language:
    said = next(filter(None, map(os.environ.get, _VARIABLES)), "")
    return "zh" if said.lower().startswith("zh") else "en"


def _catalogue(part: str) -> dict[str, str]:
    if language() == "en":
        return {}
    from . import chinese

    return getattr(chinese, part)


@functools.cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Of each kept sentence with placeholders what it matches, the longest first."""
    from . import chinese

    found = []
    for template in sorted(chinese.KEPT, key=len, reverse=True):
        pieces = list(string.Formatter().parse(template))
        if any(field is not None for _, field, *_ in pieces):
            expression = "".join(
                re.escape(text) + ("" if field is None else f"(?P<{field}>.*?)") for text, field, *_ in pieces
            )
            found.append((re.compile(expression, re.DOTALL), chinese.KEPT[template]))
    return found
