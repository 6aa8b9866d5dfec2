"""Templates rendered to one HTML file without any external request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jichu.core.files import write_text
from jichu.core.progress import clock, number
from jichu.core.words import language, named, retold, words
from jichu.pages import HERE as PAGES

from .blocks import cell

_HERE = Path(__file__).parent
_LANG = {"en": "en", "zh": "zh-Hans"}  # as HTML names them


def render(path: Path, template: str, **values: Any) -> None:
    """Write a page of this folder's templates."""
    write_text(path, rendered(_HERE / template, **values))


def rendered(template: Path, **values: Any) -> str:
    """A page; whatever is not marked as safe in the template, which may go on from those of this folder, is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _HERE, PAGES]), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "clock": clock, "number": number, "share": _share, "percent": _percent, "cell": cell, "named": named,
        "retold": retold,
    }  # fmt: skip
    environment.globals |= {"words": words, "lang": _LANG[language()]}
    return environment.get_template(template.name).render(**values)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return words("under 0.1%") if 0 < share < 0.001 else f"{100 * share:.3g}%"
