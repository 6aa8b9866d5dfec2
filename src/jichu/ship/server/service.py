"""What the paths share: the models, and how requests are read and waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from jichu.core.config import Config, check
from jichu.core.doctor import usable_cores
from jichu.core.errors import JichuError

from . import items
from .errors import Refused, refused
from .keeping import Keeper
from .kept_rows import Answered
from .line import later
from .metrics import Metrics
from .models import Models, Served
from .settings import Settings

_Form = TypeVar("_Form", bound=Config)
_T = TypeVar("_T")
_SMALL = 2**12  # bytes; as many may unpack to millions of pixels
_GROWN = 4  # times the largest body that the values of a request's JSON may take in memory


class Service:
    """The models, and whether the server is about to end."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics):
        self.models, self.settings, self.metrics = models, settings, metrics
        self.ending = False
        self.keeper = Keeper(settings, metrics, models.paths) if settings.keep else None
        # reading lets other threads go on, but for Python's share of it
        readers = max(2, usable_cores())
        self._readers, self._free = ThreadPoolExecutor(readers, "reader"), asyncio.Semaphore(readers)

    async def aside(self, request: Request, call: Callable[..., _T], *arguments: Any) -> _T:
        """Call in another thread; it is waited for like all else, and goes on where nobody does. What a few words or cells
        ask for is done here: it takes less than to change threads, while a model computes."""
        state = request.scope["state"]
        if state["size"] <= _SMALL and state.get("kind") not in items.MOST:
            return call(*arguments)
        return await self.wait(request, self._aside(call, *arguments))

    def apart(self, call: Callable[..., _T], *arguments: Any) -> Awaitable[_T]:
        """Call in another thread, however little there is to do: it waits for the disk."""
        return self._aside(call, *arguments)

    async def _aside(self, call: Callable[..., _T], *arguments: Any) -> _T:
        await self._free.acquire()
        loop, future = asyncio.get_running_loop(), self._readers.submit(call, *arguments)
        future.add_done_callback(lambda _: later(loop, self._free.release))
        return await asyncio.wrap_future(future)

    def keep(self, request: Request, served: Served, given: list[Any], read: Any, answered: Answered) -> None:
        """Have some of what was answered kept, where that is wanted."""
        if self.keeper is not None:
            state = request.scope["state"]
            state["told"] |= self.keeper.offer(state["id"], served, given, read, answered, state["size"])

    def close(self) -> None:
        """Let the threads end."""
        self._readers.shutdown(wait=False)

    async def read(self, request: Request, form: type[_Form]) -> _Form:
        """The JSON of a request in its form."""
        if body_type(request) != "application/json":
            raise wrong_type(request, "application/json")
        body = await request.body()
        request.scope["state"]["hold"](self._weighed(body))

        def parse() -> _Form:
            return check(form, items.parsed(body))

        return await self.aside(request, parse)

    def _weighed(self, body: bytes) -> int:
        weight, most = items.weight(body), _GROWN * self.settings.most_bytes
        if weight > most:
            told = f"JSON of more than {most // items.VALUE:,} commas and brackets"
            raise Refused(413, told, code="request_too_large")
        return weight

    @contextlib.contextmanager
    def using(self, request: Request, name: str | None) -> Iterator[Served]:
        """A model for the length of a request, and what is told of it."""
        with self.models.using(name) as served:
            request.scope["state"] |= {"model": served.name, "version": served.version, "kind": served.kind}
            try:
                yield served
            except JichuError as error:  # which names the run by its folder
                raise refused(error, {served.name: served.run.path}) from None

    def count(self, request: Request, rows: int, param: str = "inputs") -> None:
        """Refuse more rows than a request may have; what is told of it."""
        if rows > self.settings.rows:
            told = f"{rows:,} rows; expected {self.settings.rows:,} at most"
            raise Refused(413, told, param=param, code="too_many_inputs")
        request.scope["state"]["told"]["rows"] = rows

    async def wait(self, request: Request, answer: Awaitable[_T]) -> _T:
        """What is waited for, no longer than the client does, nor than all that the request waits for may last."""
        now = asyncio.get_running_loop().time()
        end = request.scope["state"].setdefault("end", now + self.settings.timeout)
        work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({work, gone}, timeout=max(0.0, end - now), return_when=asyncio.FIRST_COMPLETED)
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


def body_type(request: Request) -> str:
    """What a body is said to be, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_type(request: Request, expected: str) -> Refused:
    """The error for a body of another type."""
    found = body_type(request) or "no type"
    return Refused(415, f"a body of {found}; expected {expected}", code="unsupported_media_type")
