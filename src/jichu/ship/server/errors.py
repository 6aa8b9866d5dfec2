"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from jichu.core.errors import JichuError
from jichu.core.files import dumps

_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
}  # fmt: skip


class Refused(HTTPException):
    """An answer other than the one asked for: an HTTP status, what is wrong, and which key of the request."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        headers: dict[str, str] | None = None,
    ):  # fmt: skip
        super().__init__(status, message, headers)
        self.param, self.code = param, code


BROKEN = Refused(
    500, "something went wrong here; the log tells of it under the request's id", code="internal_error"
)


class Busy(Refused):
    """More than can be taken now; the client is to come again."""

    def __init__(self, message: str):
        super().__init__(503, message, code="overloaded", headers={"Retry-After": "1"})


def refused(
    error: JichuError,
    folders: dict[str, Path] | None = None,
    status: int = 400,
    code: str = "invalid_request",
) -> Refused:
    """What is wrong with a request, without the places on this machine that an error names; `folders` are told by name,
    but for relative ones, which may be words."""
    told = error.what
    if error.expected is not None:
        told += f"; expected {error.expected}"
    if isinstance(error.nearest, str) and "/" not in error.nearest:
        told += f"; did you mean {error.nearest}?"
    where = error.where if isinstance(error.where, str) and not error.where.startswith(("/", ".")) else None
    told = f"{where}: {told}" if where else told
    for name, folder in (folders or {}).items():
        if folder.is_absolute():
            told = told.replace(str(folder), name)
    return Refused(status, told, param=where, code=code)


def content(error: HTTPException) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(
        error.status_code, "server_error" if error.status_code >= 500 else "invalid_request_error"
    )
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    return {"error": {"message": str(error.detail), "type": kind, "param": param, "code": code}}


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as a response. Halves of surrogate pairs, which a request may hold, are no UTF-8."""
    body = dumps(value).encode("utf-8", "replace")
    return Response(body, status, headers, media_type="application/json")


def response(error: HTTPException) -> Response:
    """An error as a response."""
    return as_json(content(error), error.status_code, dict(error.headers or {}))


def answer_errors(app: FastAPI) -> None:
    """Have an application answer all that goes wrong in it as an error."""
    for kind in (HTTPException, JichuError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _as_refused)


async def _as_refused(_: Request, error: Exception) -> Response:
    if isinstance(error, JichuError):
        error = refused(error)
    if isinstance(error, ClientDisconnect):
        error = Refused(499, "the client has gone")
    return response(error if isinstance(error, HTTPException) else BROKEN)
