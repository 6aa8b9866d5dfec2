"""The paths that write texts, as OpenAI's."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import FastAPI, Request, Response

from .document import asks
from .errors import Refused
from .forms import ChatRequest, CompletionRequest
from .service import Service
from .writing import Answer

_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


def add(app: FastAPI, service: Service) -> None:
    """The paths."""

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
            several = len(asked.prompts) if isinstance(asked, CompletionRequest) else 1
            service.count(request, several * (asked.n or 1), "prompt")
            state = request.scope["state"]
            answer = Answer(
                asked, served, served.writer, state["id"], service.settings.timeout, state["told"]
            )
            await service.aside(request, answer.prepare)
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
        openapi_extra=asks(CompletionRequest),
    )
    async def completions(request: Request) -> Response:
        return await write(request, CompletionRequest)

    @app.post(
        "/v1/chat/completions",
        summary="What follows in a conversation",
        responses=_EVENTS,
        openapi_extra=asks(ChatRequest),
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
