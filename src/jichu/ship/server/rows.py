"""The paths that take rows: predictions, features, explanations."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from starlette.datastructures import UploadFile

from . import items
from .document import asks
from .errors import Refused, as_json
from .forms import EmbeddingRequest, ExplainRequest, PredictRequest
from .models import Served
from .service import Service, body_type, wrong_type

_FILE = {"type": "string", "format": "binary"}
_PARTS = {"model": {"type": "string"}, "file": {"type": "array", "items": _FILE}}
_OTHERS = {  # than JSON, for what is predicted
    "multipart/form-data": {"type": "object", "properties": _PARTS}, "text/plain": {"type": "string"},
    **dict.fromkeys(("image/*", "audio/*", "application/octet-stream"), _FILE),
}  # fmt: skip
_NAMED = {"name": "model", "in": "query", "required": False, "schema": {"type": "string"}}


def add(app: FastAPI, service: Service) -> None:
    """The paths."""

    @app.post(
        "/v1/predict",
        summary="What a model says of rows, images, sounds or texts",
        openapi_extra=asks(PredictRequest, **_OTHERS) | {"parameters": [_NAMED]},
    )
    async def predict(request: Request) -> Response:
        kind = body_type(request)
        read = _READERS.get(kind) or (_raw if kind.startswith(items.MEDIA) else None)
        if read is None:
            raise wrong_type(
                request, "application/json, multipart/form-data, text/plain, or an image or a sound"
            )
        name, take = await read(service, request)
        with service.using(request, name) as served:
            served.run.require_head()
            given = await take(served)
            service.count(request, len(given))
            what = await service.aside(request, served.read, given)
            found = await service.wait(request, served.predicting.ask("predict", what, len(given)))
            service.keep(request, served, given, what, found)
            rows = [{key: value for key, value in row.items() if key != "input"} for row in found.rows]
            return as_json(_named(served, predictions=rows))

    @app.post(
        "/v1/embeddings",
        summary="Features, as OpenAI's clients read them",
        openapi_extra=asks(EmbeddingRequest),
    )
    async def embeddings(request: Request) -> Response:
        asked = await service.read(request, EmbeddingRequest)
        with service.using(request, asked.model) as served:
            given = asked.input if isinstance(asked.input, list) else [asked.input]
            service.count(request, len(given), "input")
            _refuse_features(served)

            def read() -> Any:
                return served.read(items.of_json(given, served.whole, "input"))

            what = await service.aside(request, read)
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
        "/v1/explain", summary="What in an input an answer comes from", openapi_extra=asks(ExplainRequest)
    )
    async def explain(request: Request) -> Response:
        asked = await service.read(request, ExplainRequest)
        with service.using(request, asked.model) as served:
            service.count(request, len(asked.inputs))
            given = await service.aside(request, items.of_json, asked.inputs, served.run)
            work = served.explain(
                given, method=_method(asked), target=asked.target, column=asked.column, background=asked.background
            )  # fmt: skip
            found = [one.plain(asked.picture) for one in await service.wait(request, work)]
            rows = [{key: value for key, value in row.items() if key != "input"} for row in found]
            return as_json(_named(served, explanations=rows))


def _named(served: Served, **more: Any) -> dict[str, Any]:
    return {"model": served.name, "system_fingerprint": served.version, **more}


def _method(asked: ExplainRequest) -> dict[str, Any] | None:
    if asked.arguments and (asked.method is None or "name" in asked.arguments):
        told = "arguments, and no method; expected a method, and arguments without a name"
        raise Refused(400, told, param="arguments", code="invalid_request")
    return None if asked.method is None else {"name": asked.method, **asked.arguments}


def _refuse_features(served: Served) -> None:
    if served.kind == "series":
        raise Refused(400, "a model of series has no features to give", param="model", code="invalid_request")


def _written(row: np.ndarray, form: str) -> Any:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row


_Take = Callable[[Served], Awaitable[list[Any]]]


def _model(request: Request, named: str | None = None) -> str | None:
    """The model that a request names in its address, or in its body. 400 where these are two."""
    asked = request.query_params.get("model", named)
    if named not in (asked, None):
        raise Refused(400, "two models; expected one", param="model", code="invalid_request")
    return asked


async def _json(service: Service, request: Request) -> tuple[str | None, _Take]:
    asked = await service.read(request, PredictRequest)

    async def take(served: Served) -> list[Any]:
        service.count(request, len(asked.inputs))
        return await service.aside(request, items.of_json, asked.inputs, served.run)

    return _model(request, asked.model), take


async def _raw(service: Service, request: Request) -> tuple[str | None, _Take]:
    body = await request.body()

    async def take(served: Served) -> list[Any]:
        return await service.aside(request, items.of_body, body, served.run)

    return _model(request), take


async def _form(service: Service, request: Request) -> tuple[str | None, _Take]:
    most, size = service.settings.rows, service.settings.most_bytes
    model: str | None = None
    parts: list[tuple[str, bytes]] = []
    async with request.form(max_files=most, max_fields=most, max_part_size=size) as form:
        for name, part in form.multi_items():
            if isinstance(part, UploadFile):
                parts.append((name, await part.read()))
            elif name == "model":
                model = part
            else:
                parts.append((name, part.encode("utf-8", "replace")))

    async def take(served: Served) -> list[Any]:
        return await service.aside(request, items.of_parts, parts, served.run)

    return _model(request, model), take


_READERS = {"application/json": _json, "multipart/form-data": _form, "text/plain": _raw}
