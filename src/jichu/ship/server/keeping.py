"""A share of what was asked and answered, written aside by a thread of its own: nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from jichu.core.errors import JichuError, UsageError
from jichu.core.files import write_json, write_table
from jichu.data import requests
from jichu.data.given import Inputs

from .feedback import Feedback
from .kept_rows import Answered, Asked, table
from .metrics import Metrics
from .settings import Settings

if TYPE_CHECKING:
    from .models import Served

_ROOM = 2**26  # bytes of requests that wait to be written; more are dropped
_LONGEST = 0.5  # seconds until the thread looks again whether something is due


@dataclass
class _Gathered:
    """Rows of one version that are not yet in a file."""

    since: float
    parts: list[pa.Table] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(part) for part in self.parts)


class Keeper:
    """Keeps rows of answered requests in a folder for each model, by `Settings.sample`. Killed, it loses what it gathers; a
    file is whole or not there. A disk that is full is told once, and rows are counted that are not kept."""

    def __init__(self, settings: Settings, metrics: Metrics, runs: Mapping[str, Path]):
        assert settings.keep is not None
        self.folder, self._settings, self._metrics = Path(settings.keep), settings, metrics
        self._waiting: deque[Asked] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._closed = False
        self._gathered: dict[tuple[str, str], _Gathered] = {}
        self._number = count()
        self._fault = ""  # to be told
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self.feedback = {name: Feedback(self._begin(name, path), settings) for name, path in runs.items()}

    def _begin(self, name: str, run: Path) -> Path:
        """The folder of a model. UsageError where it cannot be written to, or holds what another run was asked."""
        folder = self.folder / name
        if name in (".", ".."):
            raise UsageError(f"{name!r} is no name for a folder", where="keep", expected="NAME=RUN")
        if (folder / requests.SERVED).exists() and (
            before := requests.served_run(folder)
        ).resolve() != run.resolve():
            raise UsageError(
                f"{folder} is of another run of that name, {before}", where="keep",
                expected=f"another folder or name, NAME=RUN; or {requests.SERVED} removed, where the run was moved",
            )  # fmt: skip
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / requests.SERVED, {"run": str(run)})
        except OSError as error:
            raise UsageError(
                f"cannot write to {folder}: {error.strerror}", where="keep", expected="a folder of yours"
            ) from None
        return folder

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offer(
        self, request: str, served: Served, items: list[Any], read: Any, answered: Answered, size: int
    ) -> dict[str, str]:
        """Keep the rows that are among the share, if there is room; what is to be told in the log."""
        rows = [r for r in range(len(items)) if requests.sampled(request, r, self._settings.sample)]
        if rows and served.kind != "series":  # whose answers are of no single row
            asked = Asked(
                datetime.now(UTC), request, rows, served.name, served.version, served.kind, served.run.config, items,
                read, answered, size + _held(read, answered),
            )  # fmt: skip
            with self._changed:
                room = not self._held or self._held + asked.size <= _ROOM
                if room and not self._closed:
                    self._waiting.append(asked)
                    self._held += asked.size
                    self._changed.notify()
                else:
                    self._metrics.not_kept.labels(served.name).inc(len(rows))
        told, self._fault = self._fault, ""
        return {"not_kept": told} if told else {}

    def close(self, seconds: float = 5.0) -> None:
        """Write what was gathered, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    # --- in the thread

    def _run(self) -> None:
        while True:
            asked = self._next()
            if asked is not None:
                with self._failures(asked.model, len(asked.rows)):
                    self._gather(asked)
            done = asked is None and self._closed
            for key in [key for key, found in self._gathered.items() if done or self._due(found)]:
                self._write(key)
            if done:
                return

    def _next(self) -> Asked | None:
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(_LONGEST)
            if not self._waiting:
                return None
            asked = self._waiting.popleft()
            self._held -= asked.size
            return asked

    def _gather(self, asked: Asked) -> None:
        made = table(asked, self._settings.keep_media)
        found = self._gathered.setdefault((asked.model, asked.version), _Gathered(time.monotonic()))
        found.parts.append(made)

    def _due(self, found: _Gathered) -> bool:
        waited = time.monotonic() - found.since
        return found.rows >= self._settings.keep_rows or waited >= self._settings.keep_seconds

    def _write(self, key: tuple[str, str]) -> None:
        found, model = self._gathered.pop(key), key[0]
        with self._failures(model, found.rows):
            whole = pa.concat_tables(found.parts, promote_options="permissive")
            at = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            name = requests.FILES.replace("*", f"{at}-{os.getpid()}-{next(self._number)}")
            write_table(self.folder / model / name, whole)
            self._metrics.kept.labels(model).inc(found.rows)
            self._failing = False
            self._prune()

    @contextlib.contextmanager
    def _failures(self, model: str, rows: int) -> Any:
        """Rows that cannot be kept are counted, and the first time told why."""
        try:
            yield
        except Exception as error:  # whatever is wrong with keeping, serving goes on
            self._metrics.not_kept.labels(model).inc(rows)
            if not self._failing:
                self._fault = (
                    error.what if isinstance(error, JichuError) else f"{type(error).__name__}: {error}"
                )
            self._failing = True

    def _prune(self) -> None:
        """The oldest files go where all together are too large."""
        files = sorted(self.folder.glob(f"*/{requests.FILES}"), key=lambda file: file.name)
        sizes = [file.stat().st_size for file in files]
        over = sum(sizes) - self._settings.keep_most * 2**20
        for file, size in zip(files, sizes, strict=True):
            if over <= 0:
                return
            file.unlink(missing_ok=True)
            over -= size


def _held(read: Any, answered: Answered) -> int:
    """Bytes of what was made of a request and of its answer."""
    tensors = list(read.tensors.values()) if isinstance(read, Inputs) else []
    return sum(
        part.nbytes for part in [*tensors, *answered.scores.values(), answered.features] if part is not None
    )
