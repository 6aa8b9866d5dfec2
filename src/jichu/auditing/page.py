"""Templates rendered to one HTML file without any external request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jichu.core.files import write_text
from jichu.core.progress import clock, number
from jichu.core.words import language, named, retold, words

from .blocks import cell

_LANG = {"en": "en", "zh": "zh-Hans"}  # as HTML names them


def render(path: Path, template: str, **values: Any) -> None:
    """Write a page; whatever is not marked as safe in the template is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "clock": clock, "number": number, "share": _share, "percent": _percent, "cell": cell, "named": named,
        "retold": retold,
    }  # fmt: skip
    environment.globals |= {"words": words, "lang": _LANG[language()]}
    write_text(path, environment.get_template(template).render(**values))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return words("under 0.1%") if 0 < share < 0.001 else f"{100 * share:.3g}%"
