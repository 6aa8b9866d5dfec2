"""The line in which work waits for a model: bounded, and left in the order in which it was joined."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import Busy


@dataclass(eq=False)
class Job:
    """Work of so many `rows`, and the future in which somebody waits for what comes of it."""

    kind: str
    given: Any
    rows: int
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    since: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return not self.future.done()


class Line:
    """Jobs of `room` rows at most."""

    def __init__(self, room: int):
        self.room, self.rows = room, 0
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, jobs: list[Job]) -> None:
        """Let jobs wait, all or none. Busy where there is no room; a job that alone is larger waits alone."""
        rows = sum(job.rows for job in jobs)
        with self._changed:
            if self._closed or (self.rows and self.rows + rows > self.room):
                raise Busy(f"{self.rows} rows wait already")
            self._jobs.extend(jobs)
            self.rows += rows
            self._changed.notify()

    def take(self, most: int, wait: float = 0.0, block: bool = True) -> list[Job]:
        """The first jobs, of `most` rows if not one alone has more: as soon as there are so many, or after the first
        has waited so many seconds. [] where nothing waits and the line is closed, or it is not to be waited for."""
        with self._changed:
            while block and not self._jobs and not self._closed:
                self._changed.wait()
            while self._jobs and self.rows < most and not self._closed:
                left = self._jobs[0].since + wait - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken: list[Job] = []
            rows = 0
            while self._jobs and (rows + self._jobs[0].rows <= most or (not taken and most)):
                job = self._jobs.popleft()
                self.rows -= job.rows
                if job.wanted:
                    rows += job.rows
                    taken.append(job)
            return taken

    @property
    def closed(self) -> bool:
        """Whether no more will come."""
        with self._changed:
            return self._closed and not self._jobs

    def close(self) -> None:
        """No more is taken; what waits is still done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def settle(loop: asyncio.AbstractEventLoop, outcomes: list[tuple[Job, Any]]) -> None:
    """From another thread: give jobs their results, or the errors that came in their place."""

    def give() -> None:
        for job, outcome in outcomes:
            if not job.wanted:
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    later(loop, give)


def later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From another thread: call this in the loop, if that still goes on."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
