"""The application: which path does what."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

import jichu
from jichu.core.config import Config, check
from jichu.core.doctor import usable_cores
from jichu.core.errors import JichuError

from . import items
from .errors import BROKEN, Refused, as_json, refused, response
from .forms import (
    REQUESTS,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ExplainRequest,
    PredictRequest,
)
from .metrics import CONTENT_TYPE_LATEST, Metrics
from .models import Models, Served
from .settings import Settings
from .writing import Answer

_Form = TypeVar("_Form", bound=Config)
_T = TypeVar("_T")


class Service:
    """What the paths share: the models, and where requests are read."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics):
        self.models, self.settings, self.metrics = models, settings, metrics
        self.ending = False
        # reading lets other threads go on, but for Python's share of it
        self._readers = CapacityLimiter(max(2, usable_cores()))

    async def aside(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Call in another thread."""
        return await to_thread.run_sync(partial(call, *arguments), limiter=self._readers)

    async def read(self, request: Request, form: type[_Form]) -> _Form:
        """The JSON of a request in its form."""
        _demand(request, "application/json")
        body = await request.body()

        def parse() -> _Form:
            return check(form, items.parsed(body))

        return await self.aside(parse) if len(body) > 2**14 else parse()

    @contextlib.contextmanager
    def using(self, request: Request, name: str | None) -> Iterator[Served]:
        """A model for the length of a request, and what is told of it."""
        with self.models.using(name) as served:
            request.scope["state"] |= {"model": served.name, "version": served.version}
            try:
                yield served
            except JichuError as error:  # which names the run by its folder
                raise refused(error, {served.name: served.run.path}) from None

    def count(self, request: Request, found: list[Any]) -> None:
        """Refuse more rows than a request may have; what is told of it."""
        if len(found) > self.settings.rows:
            told = f"{len(found):,} rows; expected {self.settings.rows:,} at most"
            raise Refused(413, told, param="inputs", code="too_many_inputs")
        request.scope["state"]["told"]["rows"] = len(found)

    async def wait(self, request: Request, answer: Awaitable[_T]) -> _T:
        """What is waited for, no longer than the client does, nor than it may last."""
        work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait(
                {work, gone}, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if work.done():
                return work.result()
            if gone.done():
                raise Refused(499, "the client has gone")
            raise Refused(504, f"no answer within {self.settings.timeout:g} seconds", code="timeout")
        finally:
            work.cancel()
            gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _demand(request: Request, kind: str) -> str:
    """The type of a body. 415 where it is not the one that is read."""
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != kind:
        raise Refused(415, f"a body of {found or 'no type'}; expected {kind}", code="unsupported_media_type")
    return found


def build(models: Models, settings: Settings, metrics: Metrics) -> FastAPI:
    """The application."""
    service = Service(models, settings, metrics)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await asyncio.to_thread(models.close, 1.0)

    app = FastAPI(
        title="Jichu", version=jichu.__version__, lifespan=living, redoc_url=None, redirect_slashes=False,
        description="Models from run folders: " + ", ".join(models.paths),
    )  # fmt: skip
    app.state.service = service
    for kind in (HTTPException, JichuError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _as_refused)
    _add_watching(app, service)
    _add_rows(app, service)
    _add_texts(app, service)
    _add_administration(app, service)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    return app


async def _as_refused(_: Request, error: Exception) -> Response:
    if isinstance(error, JichuError):
        error = refused(error)
    if isinstance(error, ClientDisconnect):
        error = Refused(499, "the client has gone")
    return response(error if isinstance(error, HTTPException) else BROKEN)


# --- is it well?


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
        return as_json({"object": "list", "data": [_about(s) for s in service.models.served.values()]})

    @app.get("/v1/models/{name}", summary="One of them")
    async def model(name: str) -> Response:
        return as_json(_about(service.models.find(name)))


def _about(served: Served) -> dict[str, Any]:
    run, targets = served.run, served.run.targets.values()
    return {
        "id": served.name, "object": "model", "created": served.created, "owned_by": "jichu",
        "system_fingerprint": served.version, "reads": served.kind, "writes": served.writing is not None,
        "predicts": {target.column: {"task": target.task, "classes": list(target.classes)} for target in targets},
        "context": run.config.text.context if run.config.text else None,
    }  # fmt: skip


# --- rows


def _add_rows(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict",
        summary="What a model says of rows, images, sounds or texts",
        openapi_extra=_predicted(),
    )
    async def predict(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        read = _READERS.get(kind) or (_raw if kind.startswith(items.MEDIA) else None)
        if read is None:
            raise Refused(
                415, f"a body of {kind or 'no type'}; expected application/json, multipart/form-data, text/plain, or an image"
                " or a sound", code="unsupported_media_type",
            )  # fmt: skip
        name, take = await read(service, request)
        with service.using(request, name) as served:
            served.run.require_head()
            given = await take(served)
            service.count(request, given)
            what = await service.aside(served.read, given)
            found = await service.wait(request, served.predicting.ask("predict", what, len(given)))
            rows = [{key: value for key, value in row.items() if key != "input"} for row in found]
            return as_json(_named(served, predictions=rows))

    @app.post(
        "/v1/embeddings",
        summary="Features, as OpenAI's clients read them",
        openapi_extra=_asks(EmbeddingRequest),
    )
    async def embeddings(request: Request) -> Response:
        asked = await service.read(request, EmbeddingRequest)
        with service.using(request, asked.model) as served:
            given = asked.input if isinstance(asked.input, list) else [asked.input]
            service.count(request, given)
            _refuse_features(served)

            def read() -> Any:
                return served.read(items.of_json(given, served.run, "input"))

            what = await service.aside(read)
            work = served.predicting.ask("embed", what, len(given))
            features, tokens = await service.wait(request, work)
            if asked.dimensions not in (None, features.shape[1]):
                told = f"{asked.dimensions} dimensions; expected {features.shape[1]}"
                raise Refused(400, told, param="dimensions", code="invalid_request")
            data = [
                {"object": "embedding", "index": i, "embedding": _written(row, asked.encoding_format)}
                for i, row in enumerate(features)
            ]
            usage = {"prompt_tokens": tokens, "total_tokens": tokens}
            return as_json(_named(served, object="list", data=data, usage=usage))

    @app.post(
        "/v1/explain", summary="What in an input an answer comes from", openapi_extra=_asks(ExplainRequest)
    )
    async def explain(request: Request) -> Response:
        asked = await service.read(request, ExplainRequest)
        with service.using(request, asked.model) as served:
            service.count(request, asked.inputs)
            given = await service.aside(items.of_json, asked.inputs, served.run)
            method = {"name": asked.method, **asked.arguments} if asked.method else None
            work = served.explain(
                given, method=method, target=asked.target, column=asked.column, background=asked.background
            )
            found = [one.plain() for one in await service.wait(request, work)]
            rows = [{key: value for key, value in row.items() if key != "input"} for row in found]
            return as_json(_named(served, explanations=rows))


def _named(served: Served, **more: Any) -> dict[str, Any]:
    return {"model": served.name, "system_fingerprint": served.version, **more}


def _refuse_features(served: Served) -> None:
    if served.kind == "series":
        raise Refused(400, "a model of series has no features to give", param="model", code="invalid_request")


def _written(row: np.ndarray, form: str) -> Any:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row


_Take = Callable[[Served], Awaitable[list[Any]]]


async def _json(service: Service, request: Request) -> tuple[str | None, _Take]:
    asked = await service.read(request, PredictRequest)

    async def take(served: Served) -> list[Any]:
        service.count(request, asked.inputs)
        return await service.aside(items.of_json, asked.inputs, served.run)

    return asked.model, take


async def _raw(service: Service, request: Request) -> tuple[str | None, _Take]:
    body = await request.body()

    async def take(served: Served) -> list[Any]:
        return [await service.aside(items.of_body, body, served.run)]

    return request.query_params.get("model"), take


async def _form(service: Service, request: Request) -> tuple[str | None, _Take]:
    most, model, parts = service.settings.rows, request.query_params.get("model"), []
    size = service.settings.most_bytes
    async with request.form(max_files=most, max_fields=most, max_part_size=size) as form:
        for name, part in form.multi_items():
            if isinstance(part, UploadFile):
                parts.append((name, await part.read()))
            elif name == "model":
                model = part
            else:
                parts.append((name, part.encode("utf-8", "replace")))

    async def take(served: Served) -> list[Any]:
        return await service.aside(items.of_parts, parts, served.run)

    return model, take


_READERS = {"application/json": _json, "multipart/form-data": _form, "text/plain": _raw}


# --- texts

_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


def _add_texts(app: FastAPI, service: Service) -> None:
    async def write(request: Request, form: type[CompletionRequest] | type[ChatRequest]) -> Response:
        asked = await service.read(request, form)
        over = contextlib.ExitStack()
        with contextlib.ExitStack() as until:
            served = until.enter_context(service.using(request, asked.model))
            if served.writer is None:
                raise Refused(
                    400, f"{served.name} does not go on with texts; expected a pretrained decoder, or one fine-tuned on"
                    " conversations", param="model", code="invalid_request",
                )  # fmt: skip
            state = request.scope["state"]
            answer = Answer(
                asked, served, served.writer, state["id"], service.settings.timeout, state["told"]
            )
            await service.aside(answer.prepare)
            until.callback(_tell, service, request, answer)
            answer.begin()
            if not asked.stream:
                return await service.wait(request, answer.whole())
            over = until.pop_all()
        return answer.stream(over)

    @app.post(
        "/v1/completions",
        summary="What follows prompts",
        responses=_EVENTS,
        openapi_extra=_asks(CompletionRequest),
    )
    async def completions(request: Request) -> Response:
        return await write(request, CompletionRequest)

    @app.post(
        "/v1/chat/completions",
        summary="What follows in a conversation",
        responses=_EVENTS,
        openapi_extra=_asks(ChatRequest),
    )
    async def chat(request: Request) -> Response:
        return await write(request, ChatRequest)


def _tell(service: Service, request: Request, answer: Answer) -> None:
    """At the end of an answer, however that came."""
    answer.cancel()
    usage = answer.usage
    for kind in ("prompt", "completion"):
        service.metrics.tokens.labels(answer.served.name, kind).inc(usage[f"{kind}_tokens"])
    request.scope["state"]["told"] |= usage


# --- administration


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
        return as_json(_about(served) | {"changed": served.version != before})


# --- what is told of it at /docs


def _asks(form: type[Config]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{form.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _predicted() -> dict[str, Any]:
    asks = _asks(PredictRequest)
    file = {"type": "string", "format": "binary"}
    parts = {"model": {"type": "string"}, "file": {"type": "array", "items": file}}
    asks["requestBody"]["content"] |= {
        "multipart/form-data": {"schema": {"type": "object", "properties": parts}},
        **{kind: {"schema": file} for kind in ("image/*", "audio/*", "application/octet-stream")},
        "text/plain": {"schema": {"type": "string"}},
    }
    named = {"name": "model", "in": "query", "required": False, "schema": {"type": "string"}}
    return asks | {"parameters": [named]}


_ERRORS = {
    400: "The request is wrong", 401: "No token, or none that holds", 403: "Not with this token",
    404: "No such model or path", 405: "Not by this method", 408: "It did not come in time", 409: "The model cannot be used",
    413: "Too large", 415: "A body of another type", 429: "Too many requests of this key", 503: "Too many requests",
    504: "No answer in time",
}  # fmt: skip
_ERROR = {
    "type": "object", "required": ["error"],
    "properties": {
        "error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}  # fmt: skip


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document, with the forms that requests have and the errors that may come."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        template = "#/components/schemas/{model}"
        _, schemas = models_json_schema([(form, "validation") for form in REQUESTS], ref_template=template)
        forms = {**schemas["$defs"], "Error": _ERROR}
        found["components"] = {
            "schemas": forms, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        }  # fmt: skip
        found["security"] = [{"token": []}, {}]
        body = {"application/json": {"schema": {"$ref": template.format(model="Error")}}}
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"] |= {
                    str(status): {"description": told, "content": body} for status, told in _ERRORS.items()
                }
        app.openapi_schema = found
    return app.openapi_schema
