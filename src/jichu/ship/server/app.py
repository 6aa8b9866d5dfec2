"""The application: its paths, and how it is with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache, partial

from fastapi import FastAPI, Request, Response
from starlette.responses import PlainTextResponse

import jichu

from . import feedback, play, playground, rows, texts
from .about import about
from .document import openapi
from .errors import Refused, answer_errors, as_json
from .metrics import CONTENT_TYPE_LATEST, Metrics
from .models import Models
from .page import paths
from .service import Service
from .settings import Settings

FREE = ("/healthz", "/docs", "/openapi.json", *playground.FREE)  # to everybody
_ADDRESSES = 8  # by which the server may be called, whose page is kept


def build(models: Models, settings: Settings, metrics: Metrics) -> FastAPI:
    """The application."""
    service = Service(models, settings, metrics)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        with service.keeper or contextlib.nullcontext():
            yield
            service.close()
            await asyncio.to_thread(models.close, 1.0)

    app = FastAPI(
        title="Jichu", version=jichu.__version__, lifespan=living, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Models from run folders: " + ", ".join(models.paths),
    )  # fmt: skip
    app.state.service = service
    answer_errors(app)
    _add_watching(app, service)
    _add_page(app)
    rows.add(app, service)
    texts.add(app, service)
    play.add(app, service)
    playground.add(app)
    if service.keeper is not None:
        feedback.add(app, service)
    _add_administration(app, service)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]
    return app


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether it answers, and which models")
    async def healthz() -> Response:
        versions = {name: served.version for name, served in service.models.served.items()}
        state = "ending" if service.ending else "ok"
        return as_json({"status": state, "models": versions}, 503 if service.ending else 200)

    @app.get("/metrics", summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", summary="The models, as OpenAI's clients read them")
    async def models() -> Response:
        return as_json(
            {"object": "list", "data": [about(s, service) for s in service.models.served.values()]}
        )

    @app.get("/v1/models/{name}", summary="One of them")
    async def model(name: str) -> Response:
        return as_json(about(service.models.find(name), service))


def _add_page(app: FastAPI) -> None:
    @lru_cache(_ADDRESSES)
    def page(address: str) -> str:
        return paths(app.openapi(), address)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return Response(page(str(request.base_url).rstrip("/")), media_type="text/html; charset=utf-8")


def _add_administration(app: FastAPI, service: Service) -> None:
    @app.post("/v1/models/{name}/reload", summary="Read a model again from its folder; with an admin's token")
    async def reload(name: str, request: Request) -> Response:
        key = request.scope["state"].get("key")
        if key is None or not key.admin:
            raise Refused(
                403,
                "not with this token; expected one that is told to be an admin's, or the signal SIGHUP",
                code="not_admin",
            )
        before = service.models.find(name).version
        served = await service.models.reload(name)
        return as_json(about(served, service) | {"changed": served.version != before})
