"""A training followed by the trackers that are asked for, and never held up by them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from jichu.core.errors import Interrupted, JichuError, UsageError
from jichu.core.folder import RunFolder
from jichu.core.names import resolve
from jichu.core.progress import say
from jichu.train.config import TrainConfig

from . import TRACKERS
from .base import Row, State, Tracker, Training, first_line

_NOTE = "trackers"  # in environment.json: {stage: {tracker: id of its run}}
_PATIENCE = 10.0  # seconds that an end waits for what is not written yet


def check(config: TrainConfig, where: str) -> None:
    """UsageError where a tracker that is asked for cannot be had."""
    for name, given in _wanted(config).items():
        _tracker(name).check(given, f"{where}.{name}")


@contextlib.contextmanager
def tracked(config: TrainConfig, training: Training | None) -> Iterator[Trackers]:
    """Follow the training of the block, and tell how it ended. UsageError where a tracker cannot be opened. Nothing is
    followed without a folder, or by processes other than the first."""
    if training is None or not training.folder.writes:
        yield Trackers([])
        return
    known = training.folder.notes().get(_NOTE, {})
    mine = known.get(training.stage, {}) if training.resumed else {}
    trackers = Trackers([])
    state: State = "failed"
    try:
        for name, given in _wanted(config).items():
            trackers.all.append(_opened(name, training, given, mine))
        ids = {sending.name: sending.tracker.id for sending in trackers.all if sending.tracker.id}
        if ids != known.get(training.stage, {}):
            training.folder.note(_NOTE, {**known, training.stage: ids})
        yield trackers
        state = "finished"
    except (Interrupted, KeyboardInterrupt):
        state = "interrupted"
        raise
    finally:
        trackers.close(state)


def conclude(config: TrainConfig, folder: RunFolder, stage: str, results: Mapping[str, Any]) -> None:
    """Add what was found of a stage afterwards to its runs, of which each draw of labels is one."""
    notes = folder.notes().get(_NOTE, {})
    runs = {name: ids for name, ids in notes.items() if name.split("/")[0] == stage}
    for tracker, given in _wanted(config).items():

        def tell(tracker: str = tracker, given: bool | str = given) -> None:
            for name, ids in runs.items():
                if tracker in ids:
                    training = Training(folder, name, {}, resumed=True)
                    _tracker(tracker)(training, given, ids[tracker]).close("finished", results)

        _wait(_aside(tracker, tell))


class Trackers:
    """All trackers of a training, and what they are told of it at its end."""

    def __init__(self, all: list[Sending]):
        self.all = all
        self.results: dict[str, Any] = {}

    def write(self, row: Mapping[str, Any]) -> None:
        """Every number of a logged row."""
        numbers = {n: v for n, v in row.items() if n != "step" and isinstance(v, (int, float))}
        for sending in self.all:
            sending.write(row["step"], numbers)

    def close(self, state: State) -> None:
        """The end of the training."""
        for sending in self.all:
            sending.close(state, self.results)


class Sending:
    """A tracker that is written to in a thread of its own, all that waits at once."""

    def __init__(self, name: str, tracker: Tracker):
        self.name, self.tracker = name, tracker
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._ended: tuple[State, Mapping[str, Any]] = ("failed", {})
        self._thread = _aside(name, self._send)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write what the tool does not have yet: a training that is resumed makes rows again, to the same bit."""
        new = {name: value for name, value in numbers.items() if step > self.tracker.known(name)}
        if new and self._thread.is_alive():
            self._waiting.put((step, new))

    def close(self, state: State, results: Mapping[str, Any]) -> None:
        """Write what is left, and how it ended; not for long."""
        self._ended = state, results
        self._waiting.put(None)
        _wait(self._thread)

    def _send(self) -> None:
        for rows in self._batches():
            self.tracker.write(rows)
        self.tracker.close(*self._ended)

    def _batches(self) -> Iterator[list[Row]]:
        """What waits, again and again, until the end."""
        ended = False
        while not ended:
            found = [self._waiting.get()]
            while not self._waiting.empty():
                found.append(self._waiting.get())
            ended = found[-1] is None
            if rows := [row for row in found if row is not None]:
                yield rows


def _aside(name: str, work: Callable[[], None]) -> threading.Thread:
    """Do some work of a tracker's in a thread. What goes wrong is said once, and the rest left out: all of it is in the
    run folder."""

    def forgiven() -> None:
        try:
            work()
        except Exception as error:  # of a server, a disk, a library: none of them is the training's affair
            say(f"  warning: {name} is written no further: {first_line(error)}")

    thread = threading.Thread(target=forgiven, name=name, daemon=True)
    thread.start()
    return thread


def _wait(thread: threading.Thread) -> None:
    thread.join(_PATIENCE)
    if thread.is_alive():
        say(f"  warning: {thread.name} has not taken everything in {_PATIENCE:.0f} seconds")


def _wanted(config: TrainConfig) -> dict[str, bool | str]:
    return {name: given for name in TRACKERS if (given := getattr(config, name))}


def _tracker(name: str) -> type[Tracker]:
    return cast(type[Tracker], resolve("tracker", name, TRACKERS))


def _opened(name: str, training: Training, given: bool | str, ids: Mapping[str, str]) -> Sending:
    try:
        tracker = _tracker(name)(training, given, ids.get(name))
    except JichuError:
        raise
    except Exception as error:  # whatever a library raises
        raise UsageError(f"{name} cannot be opened: {first_line(error)}", where=training.stage) from None
    if tracker.told:
        say(f"  {name}: {tracker.told}")
    return Sending(name, tracker)
