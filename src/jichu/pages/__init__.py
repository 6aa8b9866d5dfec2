"""What pages are made of: one look, and the scripts that are sent as they stand here, without a build step."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from jichu.core.words import named, speaking, translated

HERE = Path(__file__).parent
_SAID = re.compile(r'\bt\(\s*("(?:[^"\\]|\\.)*")')


def static(name: str) -> bytes:
    """A file of this folder."""
    return (HERE / name).read_bytes()


def shell(name: str) -> bytes:
    """The page whose style and script are called so."""
    return static("page.html").replace(b"NAME", name.encode())


def sentences(script: str) -> set[str]:
    """What a script says by `t("…")`."""
    return {said[1:-1] for said in _SAID.findall(script)}


def texts(language: str, names: Collection[str] = ()) -> dict[str, str]:
    """What all scripts say, in a language, and what they call some names; what is filled in is left to them."""
    with speaking(language):
        found = set().union(*(sentences(path.read_text("utf-8")) for path in HERE.glob("*.js")))
        return {name: named(name) for name in names} | {
            sentence: translated(sentence) for sentence in sorted(found)
        }
