"""What a page in a browser is made of, as it is sent: only what changed, and under a policy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response

from jichu.core.files import dumps
from jichu.core.words import LANGUAGES
from jichu.metrics import METRICS
from jichu.pages import static, texts

_LOGGED = (
    "loss",
    "lr",
    "samples_per_second",
    "share",
    "data",
    "forward",
    "backward",
    "optimizer",
    "rest",
    "train_accuracy",
    "validation_accuracy",
    "validation_loss",
)  # while training, beside metrics; fmt: skip
_KINDS = {"css": "text/css", "js": "text/javascript"}


def free(names: Sequence[str]) -> tuple[str, ...]:
    """The paths at which `add_static` sends these files."""
    return (*(f"/static/{name}" for name in names), *map(_words, LANGUAGES))


def add_static(app: FastAPI, names: Sequence[str]) -> None:
    """Styles and scripts of `jichu.pages`, and what these say in each language."""
    for name in names:
        kind = _KINDS[name.rpartition(".")[2]]
        _add(app, f"/static/{name}", static(name), f"{kind}; charset=utf-8")
    for language in LANGUAGES:
        _add(app, _words(language), dumps(texts(language, (*METRICS, *_LOGGED))).encode(), "application/json")


def _words(language: str) -> str:
    return f"/words/{language}.json"


def _add(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def send(request: Request) -> Response:
        return shown(request, content, kind)

    app.add_api_route(path, send, include_in_schema=False)


def shown(request: Request, content: bytes, kind: str, policy: str = "default-src 'none'") -> Response:
    """Content under a policy; nothing where the client has it already."""
    mark = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "ETag": mark, "Cache-Control": "no-cache", "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }  # fmt: skip
    if request.headers.get("if-none-match") == mark:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)
