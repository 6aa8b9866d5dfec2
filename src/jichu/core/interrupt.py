"""Ctrl-C asks the work to stop at the next safe place; a second one stops it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from .progress import say


class Stop:
    """`requested` becomes True when the user, or the system, asks to stop."""

    requested = False


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request while the block runs (in the main thread)."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: Any) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        say("stopping after this step; once more to stop at once")

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
