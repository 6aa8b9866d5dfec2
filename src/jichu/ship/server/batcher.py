"""One thread a model that takes what waits, computes it together, and gives each its part."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any

from .line import Job, Line, settle

# What comes of several jobs of a kind, in their order.
Compute = Callable[[str, list[Any]], list[Any]]


class Batcher:
    """Jobs of at most `most` rows are computed together, or as many as have come `wait` seconds after the first.
    `inside` is what they are computed in; `seen` is told the rows of each batch."""

    def __init__(
        self, name: str, compute: Compute, inside: Callable[[], AbstractContextManager[Any]], *, most: int,
        wait: float, room: int, seen: Callable[[int], None],
    ):  # fmt: skip
        self.line = Line(room)
        self._compute, self._inside, self._most, self._wait, self._seen = compute, inside, most, wait, seen
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"batcher {name}", daemon=True)
        self._thread.start()

    def ask(self, kind: str, given: Any, rows: int) -> asyncio.Future[Any]:
        """What comes of it. Busy where too much waits."""
        job = Job(kind, given, rows)
        self.line.put([job])
        return job.future

    def close(self) -> None:
        """End the thread when what waits is done."""
        self.line.close()

    def join(self, seconds: float) -> None:
        """Wait for that."""
        self._thread.join(seconds)

    def _run(self) -> None:
        with self._inside():
            while jobs := self._next():
                self._seen(sum(job.rows for job in jobs))
                for kind, some in groupby(sorted(jobs, key=lambda job: job.kind), key=lambda job: job.kind):
                    settle(self._loop, list(self._outcomes(kind, list(some))))

    def _next(self) -> list[Job]:
        """The next jobs; none where there will be no more."""
        while not (jobs := self.line.take(self._most, self._wait)) and not self.line.closed:
            pass  # nobody waits for those any more
        return jobs

    def _outcomes(self, kind: str, jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Each job's result or error; where something goes wrong with several, each is tried alone."""
        try:
            yield from zip(jobs, self._compute(kind, [job.given for job in jobs]), strict=True)
        except Exception as error:
            if len(jobs) == 1:
                yield jobs[0], error
            else:
                for job in jobs:
                    yield from self._outcomes(kind, [job])
