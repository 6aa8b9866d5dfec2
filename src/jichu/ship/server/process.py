"""A server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from jichu.core.errors import JichuError, UsageError
from jichu.core.interrupt import hangup_wanted
from jichu.core.progress import console

from .gate import Gate, Log, is_loopback
from .keys import TOKEN, Keys, read
from .metrics import Metrics
from .settings import Limits

_WAITING = 2048  # connections that the system keeps for us


def log(line: dict[str, Any]) -> None:
    """A line of JSON on standard error."""
    with contextlib.suppress(OSError, ValueError):
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
        print(json.dumps(told, default=str), file=sys.stderr, flush=True)


class Process:
    """A server that can be run, here or in another thread, and ended. Its application is built once its address is had; who
    may ask is told by `tokens`, a file with them, but for its `free` paths."""

    def __init__(
        self,
        build: Callable[[Metrics], ASGIApp],
        settings: Limits,
        tokens: Path | None = None,
        log: Log = log,
        free: Collection[str] = (),
    ):
        self.keys = Keys(lambda: read(tokens), settings.rate)
        _refuse_open(settings.host, self.keys)
        self.socket = _socket(settings.host, settings.port)
        self.address = _address(self.socket)
        metrics = Metrics()
        try:
            app = build(metrics)
        except BaseException:
            self.socket.close()
            raise
        self.log = log

        class Protocol(_Patient, H11Protocol):  # bounds headers, which httptools does not
            patience = settings.patience

        config = uvicorn.Config(
            Gate(app, self.keys, settings, metrics, log, free), http=Protocol, ws="none", lifespan="on", log_config=None,
            access_log=False, server_header=False, timeout_graceful_shutdown=max(1, round(settings.drain)),
        )  # fmt: skip
        self._server = _Server(config, self)
        self._others = set(threading.enumerate())

    def run(self) -> None:
        """Answer until `end`, or a signal that asks for it."""
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        quiet, console.quiet = console.quiet, True  # what is told of cut texts, of every request
        try:
            self._server.run(sockets=[self.socket])
        finally:
            console.quiet = quiet

    @property
    def computing(self) -> bool:
        """Whether a thread of it still computes what nobody waits for, after its end."""
        return not self._others.issuperset(threading.enumerate())

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return self._server.started

    def end(self) -> None:
        """Take no more, and end when what was begun is answered, or the time for that is over."""
        self._server.should_exit = True

    def again(self) -> None:
        """Read anew what may have changed, in the event loop."""
        task = asyncio.get_running_loop().create_task(self._again())
        self._reading = task  # else it may be lost

    async def _again(self) -> None:
        try:
            self.keys.again()
        except JichuError as error:
            self.log({"event": "tokens not read again", "error": str(error)})


class _Server(uvicorn.Server):
    """Ends as it was asked to, and not by the signal that asked."""

    def __init__(self, config: uvicorn.Config, running: Process):
        super().__init__(config)
        self._running = running

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server, SIGHUP has it read models and tokens again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        heard: dict[int, Callable[[], Any]] = {signal.SIGINT: self._asked, signal.SIGTERM: self._asked}
        if hasattr(signal, "SIGHUP"):
            heard[signal.SIGHUP] = self._running.again
        before = {number: signal.getsignal(number) for number in heard}
        for number, call in heard.items():
            loop.add_signal_handler(number, call)
        hangup_wanted()
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _asked(self) -> None:
        if self.should_exit:
            self.force_exit = True  # the second time at once
            for task in self.server_state.tasks:
                task.cancel()
        self._running.end()


class _Patient:
    """A connection on which no request is under way is closed when nothing whole has come for a time: headers that are
    sent byte by byte, or none at all. One from which nothing is read for a time is cut off."""

    patience: float
    _due: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)  # type: ignore[misc]
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Begin to wait anew where this is the beginning of another request."""
        if self._due is None and not self._asked():
            self._wait()
        super().data_received(data)  # type: ignore[misc]
        if self._due is not None and self._asked():
            self._due.cancel()
            self._due = None

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()  # type: ignore[misc]
        self._press(None)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()  # type: ignore[misc]
        if self._unread is not None:
            self._unread.cancel()

    def connection_lost(self, error: Exception | None) -> None:
        """No longer wait."""
        for timer in (self._due, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(error)  # type: ignore[misc]

    def _wait(self) -> None:
        this: Any = self
        self._due = this.loop.call_later(self.patience, this.transport.close)

    def _press(self, before: int | None) -> None:
        this: Any = self
        left = this.transport.get_write_buffer_size()
        if before is None or left < before:
            self._unread = this.loop.call_later(self.patience, self._press, left)
        else:
            this.transport.abort()  # to close it would wait for what is not read

    def _asked(self) -> bool:
        this: Any = self
        return this.cycle is not None and not this.cycle.response_complete


def _refuse_open(host: str, keys: Keys) -> None:
    if not keys.all and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, and nobody would be asked for a token", where="--host",
            expected=f"a token in the environment ({TOKEN}) or in a file (--tokens), or --host 127.0.0.1",
        )  # fmt: skip


def _socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.create_server(address[:2], family=family, backlog=_WAITING)
        # inherited by what is accepted; else the body of an answer waits until the client has told that it has the head
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:  # the latter of what is no name of a machine
        why = getattr(error, "strerror", None) or "no name of a machine"
        raise UsageError(
            f"cannot listen at {host}, port {port}: {why}", where="--host and --port",
            expected="an address of this machine and a port that is free; 0 takes one",
        ) from None  # fmt: skip
    return found


def _address(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
