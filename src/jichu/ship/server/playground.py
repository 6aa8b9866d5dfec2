"""The playground: a page on which people ask the models, from whatever paths there are."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from jichu.pages import shell

from .sending import add_static, free, shown

STATIC = (
    "page.css", "forms.css", "plot.css", "play.css",
    "common.js", "plot.js", "places.js", "answers.js", "ask.js", "chat.js", "inputs.js", "map.js", "series.js", "play.js",
)  # fmt: skip
FREE = ("/", *free(STATIC))  # to everybody: nothing of any model
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add(app: FastAPI) -> None:
    """The page, and what it is made of."""

    @app.get("/", include_in_schema=False)
    async def playground(request: Request) -> Response:
        return shown(request, shell("play"), "text/html; charset=utf-8", _POLICY)

    add_static(app, STATIC)
