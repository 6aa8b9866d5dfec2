"""Progress with time left, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class _Console(Console):
    """One whose reader may go away: the work goes on in silence."""

    def on_broken_pipe(self) -> None:
        """Turn to nothing, where rich would end the process."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


console = _Console(stderr=True, highlight=False)
_LINE_EVERY = 10.0  # seconds, where there is no terminal


def say(text: str = "") -> None:
    """A line for people; never on standard output, which belongs to results."""
    try:
        console.print(text, markup=False, soft_wrap=True)
    except OSError:  # a terminal that is gone, a full disk behind it
        console.quiet = True


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def number(value: float | None) -> str:
    """A figure as it is shown, to four digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


class Task:
    """One piece of work of known length."""

    def __init__(self, name: str, total: int, bar: Progress | None, done: int = 0):
        self.name, self.total, self.done, self._first = name, total, done, done
        self._bar, self._started, self._said = bar, time.monotonic(), time.monotonic()
        self._id = bar.add_task(name, total=total, completed=done, note="") if bar else None

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count steps as done; `note` (a loss, a rate) stands beside the bar."""
        self.done += steps
        if self._bar is not None and self._id is not None:
            fields: dict[str, Any] = {} if note is None else {"note": note}
            self._bar.update(self._id, advance=steps, **fields)
            return
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY and not console.quiet:
            self._said = now
            rate = (now - self._started) / max(1, self.done - self._first)
            left = clock(rate * (self.total - self.done))
            say(f"{self.name}: {self.done}/{self.total}, {left} left  {note or ''}".rstrip())


@contextlib.contextmanager
def task(name: str, total: int, *, done: int = 0) -> Iterator[Task]:
    """Show a task while the block runs."""
    if not console.is_terminal or console.quiet:
        yield Task(name, total, None, done)
        return
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        yield Task(name, total, bar, done)
