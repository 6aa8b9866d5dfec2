"""The application of the board: its page, and what the page asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import FileResponse

import jichu
from jichu.core.config import Config, check
from jichu.core.errors import UsageError
from jichu.core.files import dumps
from jichu.core.lock import interrupt
from jichu.core.places import Places
from jichu.pages import shell
from jichu.ship.server.errors import Refused, answer_errors, refused
from jichu.ship.server.metrics import Metrics
from jichu.ship.server.sending import add_static, free, shown

from ..curves import curves
from ..details import details, page
from ..facts import Facts
from ..runs import Runs, choose, compare, counts, paired, size, tag

_MOST = 200  # runs of an answer
_STATIC = ("page.css", "forms.css", "plot.css", "board.css", "common.js", "plot.js", "board.js")
FREE = ("/", "/healthz", *free(_STATIC))  # to everybody: nothing of any run
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src blob:;"
    " connect-src 'self'; frame-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)  # inline styles are those of the reports that it shows
_RUN = "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
_OURS = "x-jichu-board"  # a header that a page of another site cannot send without being asked whether it may

_Several = Annotated[list[str], Query(default_factory=list)]
_Runs = Annotated[list[str], Query(max_length=12)]


class _Tags(Config):
    add: list[str] = Field([])
    remove: list[str] = Field([])


def build(runs: Runs, metrics: Metrics) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Jichu", version=jichu.__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )  # fmt: skip
    answer_errors(app)
    _add_page(app)
    _add_facts(app, runs)
    _add_files(app, runs)
    _add_deeds(app, runs)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    async def board(request: Request) -> Response:
        return shown(request, shell("board"), "text/html; charset=utf-8", _PAGE)

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response('{"status": "ok"}', media_type="application/json")

    add_static(app, _STATIC)


def _add_facts(app: FastAPI, runs: Runs) -> None:
    @app.get("/api/runs")
    async def listed(
        request: Request, tag: _Several, state: _Several, where: _Several, picked: _Several, search: str = "", sort: str = "started", reverse: bool = False,
        start: int = 0, most: int = 100,
    ) -> Response:  # fmt: skip
        def found() -> dict[str, Any]:
            every = runs.all()
            chosen = choose(
                every, search=search, tags=tag, states=state, where=where, sort=sort, reverse=reverse
            )
            first = max(0, start)
            part = chosen[first : first + min(max(0, most), _MOST)]
            names = dict.fromkeys(name for run in part for name in run.headline)
            there = {run.name for run in every}
            told = [
                {**run.plain(), "bytes": None if run.state == "running" else size(run.path)} for run in part
            ]
            return {
                "folder": runs.path.resolve().name, "all": len(every), "found": len(chosen), "start": first,
                **counts(every), "metrics": list(names), "runs": told,
                "picked": [name for name in picked if name in there],
            }  # fmt: skip

        return await _told(request, found)

    @app.get("/api/runs/{name}")
    async def one(request: Request, name: str) -> Response:
        return await _told(request, lambda: details(_find(runs, name)))

    @app.get("/api/runs/{name}/metrics")
    async def logged(request: Request, name: str, after: str = "") -> Response:
        return await _told(request, lambda: curves(Places(_find(runs, name).path).metrics, after))

    @app.get("/api/runs/{name}/timing")
    async def timed(request: Request, name: str, after: str = "") -> Response:
        return await _told(request, lambda: curves(Places(_find(runs, name).path).timing, after))

    @app.get("/api/compare")
    async def compared(request: Request, run: _Runs) -> Response:
        return await _told(request, lambda: compare([_find(runs, name) for name in run]))

    @app.get("/api/compare/rows")
    async def by_rows(request: Request, run: _Runs) -> Response:
        _refuse_others(request)  # it takes long
        return await _told(request, lambda: paired([_find(runs, name) for name in run]))


def _add_files(app: FastAPI, runs: Runs) -> None:
    @app.get("/files/{name}/{file:path}")
    async def file(name: str, file: str) -> Response:
        try:
            path, kind = page(await run_in_threadpool(_find, runs, name), file)
        except UsageError as error:
            raise refused(error, status=404, code="not_found") from None
        return FileResponse(
            path, media_type=kind, headers={"Content-Security-Policy": _RUN, "Cache-Control": "no-store"}
        )


def _add_deeds(app: FastAPI, runs: Runs) -> None:
    @app.post("/api/runs/{name}/stop")
    async def stop(request: Request, name: str) -> Response:
        _refuse_others(request)
        run = await run_in_threadpool(_find, runs, name)
        held = await run_in_threadpool(interrupt, run.path)
        request.scope["state"]["told"]["stopped"] = run.name
        return Response(dumps({"process": held.pid}), media_type="application/json")

    @app.post("/api/runs/{name}/tags")
    async def tagged(request: Request, name: str) -> Response:
        _refuse_others(request)
        try:
            asked = check(_Tags, await request.json(), where="tags")
        except (ValueError, RecursionError):
            raise Refused(400, "a body that is no JSON", code="invalid_request") from None
        run = await run_in_threadpool(_find, runs, name)
        after = await run_in_threadpool(partial(tag, run, asked.add, asked.remove))
        return Response(dumps({"tags": after}), media_type="application/json")


def _find(runs: Runs, name: str) -> Facts:
    try:
        return runs.find(name)
    except UsageError as error:
        raise refused(error, status=404, code="no_such_run") from None


def _refuse_others(request: Request) -> None:
    """That a page of another site asks, in a browser that is let in: it may not send such a header."""
    if request.headers.get(_OURS) != "1":
        raise Refused(403, f"not from another site's page; expected the header {_OURS}: 1", code="cross_site")


async def _told(request: Request, call: Callable[[], Any]) -> Response:
    """What a call gives, as JSON, read in another thread; nothing where the client has it already."""
    value = await run_in_threadpool(call)
    return shown(request, dumps(value).encode("utf-8", "replace"), "application/json")
