"""Ctrl-C asks the work to stop at the next safe place; a second one stops it at once. So do the signals
with which a system ends a process, or a terminal that is closed."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ECHO = 1.0  # seconds within which a signal is the same request: a launcher and a terminal may both send it


class Stop:
    """`requested` becomes True when the user, or the system, asks to stop."""

    requested = False
    when = 0.0


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Signals that are not ignored (`nohup`) go to the handler while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listened = [s for s in _SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, handler) for s in listened}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn signals into a request while the block runs (in the main thread)."""
    stop = Stop()

    def on_signal(number: int, frame: Any) -> None:
        if stop.requested and time.monotonic() - stop.when > _ECHO:
            raise KeyboardInterrupt
        if not stop.requested:
            stop.requested, stop.when = True, time.monotonic()
            from .progress import say

            with contextlib.suppress(RuntimeError):  # in the middle of another line
                say("stopping after this step; once more to stop at once")

    with _handled(on_signal):
        yield stop


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While the block runs such a signal does nothing: a launcher sends one to what is left of its processes
    just when that tells why it ends."""
    with _handled(lambda number, frame: None):
        yield


@contextlib.contextmanager
def terminable() -> Iterator[Stop]:
    """While the block runs every such signal ends it as Ctrl-C does, by KeyboardInterrupt; which a library may
    make another error of."""
    stop = Stop()

    def on_signal(number: int, frame: Any) -> None:
        stop.requested = True
        raise KeyboardInterrupt

    with _handled(on_signal):
        yield stop


@contextlib.contextmanager
def hangup_kept() -> Iterator[None]:
    """While the block runs the system keeps SIGHUP, until it is asked for by `hangup_wanted`."""
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        yield


def hangup_wanted() -> None:
    """Give SIGHUP to its handler, also one that was kept."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def leave(code: int) -> NoReturn:
    """End the process with this code, without what Python does at its end to threads and by signals."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
