"""A run's data at hand, for a server that was asked to show them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from jichu.core.errors import DataError, JichuError, UsageError

from .errors import Busy
from .twin import Twin

if TYPE_CHECKING:
    from jichu.runs import Run

_T = TypeVar("_T")


class Shown:
    """The thread that looks at the data. It begins with what all questions need, the features of the training rows,
    and until that is done the answer is to come again."""

    def __init__(self, twin: Twin):
        self._twin, self.line, self.join = twin, twin.line, twin.join
        self._ready = twin.ask(_prepare, 1)
        # else asyncio complains of an error that nobody asked for
        self._ready.add_done_callback(lambda work: work.cancelled() or work.exception())

    def ask(self, call: Callable[[Run], _T], rows: int = 1) -> asyncio.Future[_T]:
        """What comes of a call. Busy while the data are read, and their error where they cannot be."""
        if not self._ready.done():
            raise Busy("the data are being read and the features of their rows computed")
        self._ready.result()
        return self._twin.ask(call, rows)

    def close(self) -> None:
        """End the thread when what waits is done; what nobody has asked for is given up."""
        if not self._ready.done():
            self._twin.give_up()
        self._twin.close()


def _prepare(run: Run) -> None:
    try:
        data = run.dataset()
    except JichuError as error:  # which may say where they lie
        raise _lost("cannot be read") from error
    if not run.folder.made_of(data.fingerprint):
        raise _lost("have changed since")
    seen = run.seen()
    for find in (
        partial(seen.features, "train"),
        partial(seen.features, "test"),
        partial(seen.scores, "test"),
    ):
        with contextlib.suppress(UsageError):  # who asks for what there is not is told then
            find()


def _lost(how: str) -> DataError:
    return DataError(
        f"the data that this model was made of {how}",
        expected="they as they were, in the place where they were",
    )
