"""What every request passes: who asks, how often and how much, within which time; and what is told of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import BROKEN, Busy, Refused, response
from .keys import Keys
from .metrics import Metrics
from .settings import Limits

Log = Callable[[dict[str, Any]], None]
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_HELD = 8  # times the largest body that all requests together may hold in memory
_READ = 64  # requests that are being read, beside those that wait
_READING = ("GET", "HEAD", "OPTIONS")
_OURS = ("same-origin", "none")  # whose page asks, as browsers say it; no page
_OTHER = "other"  # in the place of a path that there is not


class Gate:
    """Around the application, whose paths `free` are open to everybody. What a request is about, the application leaves in
    `scope["state"]`: `model`, `version` and what else is to be logged under `told`."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        settings: Limits,
        metrics: Metrics,
        log: Log,
        free: Collection[str] = (),
    ):
        self.app, self.keys, self.settings, self.metrics, self.log = app, keys, settings, metrics, log
        self.free = free
        self.open = 0  # requests that were admitted
        self.held = 0  # bytes of bodies and of what is made of them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await _Passage(self, scope, receive, send).go()

    def admit(self, scope: Scope, headers: Headers) -> str:
        """The name of the key that asks. Refused where it may not."""
        local = not self.keys.all
        if local and not _is_local(
            headers.get("host", "")
        ):  # a page that another name was made to stand for us
            raise Refused(403, "a Host that is not this machine's", code="invalid_host")
        if local and scope["method"] not in _READING and headers.get("sec-fetch-site", "none") not in _OURS:
            raise Refused(
                403, "asked by another site's page, in a browser of this machine", code="cross_site"
            )
        if scope["path"] in self.free:
            return "-"
        if self.open > self.settings.queue + _READ:
            raise Busy("too many requests at the same time")
        client = scope.get("client")
        key = self.keys.admit(headers.get("authorization"), client[0] if client else "-")
        scope["state"]["key"] = key
        return key.name

    @contextlib.contextmanager
    def counting(self, scope: Scope) -> Iterator[None]:
        """One more that is open. Those that everybody may ask for are none, nor are the refused: who has no token keeps
        nobody out."""
        one = scope["path"] not in self.free
        self.open += one
        try:
            yield
        finally:
            self.open -= one


class _Passage:
    """A request on its way."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send):
        self.gate, self.scope, self._receive, self._send = gate, scope, receive, send
        self.headers = Headers(scope=scope)
        self.state: dict[str, Any] = scope.setdefault("state", {})
        given = self.headers.get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        self.state |= {"id": self.id, "told": {}, "hold": self.hold, "size": 0}
        self.begun, self.status, self.size, self.whole = time.monotonic(), 0, 0, False
        self.held = 0

    async def go(self) -> None:
        """Pass it to the application, and tell of it."""
        name: str = "-"
        error: Exception | None = None
        try:
            name = self.gate.admit(self.scope, self.headers)
            told = self.headers.get("content-length", "")
            self._measure(int(told) if told.isdecimal() else 0)
            with self.gate.counting(self.scope):
                await self.gate.app(self.scope, self.receive, self.send)
        except Refused as refused:
            await self._refuse(refused)
        except asyncio.CancelledError:  # the time of what was begun is over
            await self._refuse(Busy("the server is ending"))
            raise
        except Exception as fault:
            error = fault
            await self._refuse(BROKEN)
        finally:
            self.gate.held -= self.held
            self._tell(name, error)

    async def _refuse(self, refused: Refused) -> None:
        if not self.status:
            await response(refused)(self.scope, self.receive, self.send)

    def _measure(self, size: int) -> None:
        if size > self.gate.settings.most_bytes:
            most = f"{self.gate.settings.body:g} MiB"
            raise Refused(
                413, f"a body of more than {most}", code="request_too_large", headers={"Connection": "close"}
            )

    async def receive(self) -> Message:
        """A part of the body, as long as that is not too large and comes in time."""
        if self.whole:
            return await self._receive()
        left = self.begun + self.gate.settings.patience - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await self._receive()
        except TimeoutError:
            raise Refused(
                408, "the request did not come in time", code="timeout", headers={"Connection": "close"}
            ) from None
        size = len(message.get("body", b""))
        self.state["size"] = self.size = self.size + size
        self.whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        self._measure(self.size)
        self.hold(size)
        return message

    def hold(self, size: int) -> None:
        """So many bytes more are in memory until the request has its answer. Busy where all together are too many."""
        self.held += size
        self.gate.held += size
        if self.gate.held > _HELD * self.gate.settings.most_bytes:
            raise Busy("too much is being sent at the same time")

    async def send(self, message: Message) -> None:
        """A part of the answer, its headers with what every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.id
            headers["X-Content-Type-Options"] = "nosniff"
            if "version" in self.state:
                headers["X-Model-Version"] = self.state["version"]
        await self._send(message)

    def _tell(self, name: str, error: Exception | None) -> None:
        seconds, model = time.monotonic() - self.begun, self.state.get("model", "")
        route = self.scope.get("route")
        path = getattr(route, "path", _OTHER)
        status = self.status or 499  # the client has gone
        self.gate.metrics.requests.labels(path, model, str(status)).inc()
        self.gate.metrics.seconds.labels(path, model).observe(seconds)
        client = self.scope.get("client")
        line = {
            "request": self.id, "method": self.scope["method"], "path": self.scope["path"][:200], "status": status,
            "seconds": round(seconds, 6), "key": name, "client": client[0] if client else None,
            "model": self.state.get("version"), "bytes": self.size, **self.state["told"],
        }  # fmt: skip
        if error is not None:
            line["error"] = "".join(traceback.format_exception(error))
        self.gate.log({key: value for key, value in line.items() if value is not None})


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine by itself."""
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    return name == "localhost" or is_loopback(name.strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
