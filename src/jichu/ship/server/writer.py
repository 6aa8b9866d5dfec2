"""One thread a language model, in which the texts of all requests are written together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from jichu.models.continuous import Row, Writing

from .line import Job, Line, later


class Text:
    """A text that is being written. What comes of it goes into a queue with its number: pieces, None at its end, or what
    went wrong."""

    def __init__(self, number: int, queue: asyncio.Queue[tuple[int, Any]]) -> None:
        self.row: Row | None = None
        self.give = lambda piece: queue.put_nowait((number, piece))


class Writer:
    """Texts join those that are being written when there is room for them: `most` at a time. `seen` is told how many
    are written at each step."""

    def __init__(
        self, name: str, writing: Writing, inside: Callable[[], AbstractContextManager[Any]], *, most: int,
        room: int, seen: Callable[[int], None],
    ):  # fmt: skip
        self.line, self.writing = Line(room), writing
        self._inside, self._most, self._seen = inside, most, seen
        self._loop = asyncio.get_running_loop()
        self._told: list[tuple[Text, Any]] = []  # of this step
        self._thread = threading.Thread(target=self._run, name=f"writer {name}", daemon=True)
        self._thread.start()

    def row(self, text: Text, prompt: str | list[int], **settings: Any) -> Row:
        """A text's row, which may be made by any thread. UsageError where it cannot be written."""
        text.row = self.writing.row(prompt, partial(self._tell, text), **settings)
        return text.row

    def write(self, texts: list[Text]) -> None:
        """Begin to write. Busy where too many wait."""
        self.line.put([Job("text", text, 1) for text in texts])

    def close(self) -> None:
        """End the thread when all texts have ended."""
        self.line.close()

    def join(self, seconds: float) -> None:
        """Wait for that."""
        self._thread.join(seconds)

    def _tell(self, text: Text, piece: Any) -> None:
        self._told.append((text, piece))

    def _run(self) -> None:
        texts: dict[Row, Text] = {}
        with self._inside():
            while True:
                jobs = self.line.take(self._most - len(texts), block=not texts)
                if not jobs and not texts:
                    if self.line.closed:
                        return
                    continue
                joining = [job.given for job in jobs if not job.given.row.cancelled]
                texts |= {text.row: text for text in joining}
                try:
                    for row in self.writing.step([text.row for text in joining]):
                        self._tell(texts[row], None)
                except Exception as error:
                    self.writing.clear()
                    for text in texts.values():
                        self._tell(text, error)
                self._seen(len(texts))
                texts = {row: texts[row] for row in self.writing.rows}
                later(self._loop, partial(_give, self._told))
                self._told = []


def _give(told: list[tuple[Text, Any]]) -> None:
    for text, piece in told:
        text.give(piece)
