"""What takes long, in a thread of its own with a model of its own, so that predictions do not wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jichu.core.doctor import with_threads

from .batcher import Batcher
from .errors import Refused

if TYPE_CHECKING:
    from jichu.runs import Run

_T = TypeVar("_T")
_ROOM = 16  # rows that wait


class Twin:
    """A run's twin, whose weights are the same memory, and the thread that asks it. Nothing is gone on with that
    nobody waits for."""

    def __init__(self, name: str, run: Run, threads: int):
        self._run, self._over = run.twin(), threading.Event()
        self._batcher = Batcher(
            name, lambda _, asked: [self._called(*one) for one in asked], partial(with_threads, threads), most=1, wait=0,
            room=_ROOM, seen=lambda rows: None,
        )  # fmt: skip
        self.line, self.close, self.join = self._batcher.line, self._batcher.close, self._batcher.join

    def ask(self, call: Callable[[Run], _T], rows: int) -> asyncio.Future[_T]:
        """What comes of a call about so many rows, given up before the next forward pass once nobody waits."""
        left = threading.Event()
        work = self._batcher.ask("call", (left, call), rows)
        work.add_done_callback(lambda _: left.set())
        return work

    def give_up(self) -> None:
        """Go on with nothing, be it waited for or not."""
        self._over.set()

    def _called(self, left: threading.Event, call: Callable[[Run], _T]) -> _T:
        def go_on(*_: Any) -> None:
            if left.is_set() or self._over.is_set():
                raise Refused(499, "the client has gone")

        model: Any = self._run.model  # of which features are asked too, and not the model as a whole
        hook = getattr(model, "backbone", model).register_forward_pre_hook(go_on)
        try:
            return call(self._run)
        finally:
            hook.remove()
