"""What every tracker does."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal

from jichu.core.errors import UsageError
from jichu.core.folder import RunFolder

PROJECT = "jichu"  # what MLflow calls an experiment, if nothing is said
State = Literal["finished", "failed", "interrupted"]
Row = tuple[int, dict[str, float]]  # a step, and numbers by name
_PATIENCE = 10.0  # seconds for a server to answer
_LONGEST = 200  # characters of an error


@dataclass(frozen=True)
class Training:
    """A training as trackers are told of it."""

    folder: RunFolder
    stage: str
    settings: Mapping[str, Any]  # the stage of the resolved recipe, and the seed
    resumed: bool = False
    step: int = 0  # of the checkpoint that it goes on from
    logged: int = -1  # the last step that had been logged before, perhaps after the checkpoint

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.folder.path.resolve().name

    @property
    def name(self) -> str:
        """What a tool is to call its run."""
        return f"{self.run}/{self.stage}"


class Tracker(ABC):
    """One run of a tool, opened by its constructor: a new one, or that with this `id`, with what it has.

    `given` is what the recipe says: True, or a text. A tracker is opened in one thread, and written to from one other.
    Whatever it raises in the middle ends the tracking and not the training.
    """

    id: str | None = None  # kept in the run folder, to go on with
    told: str = ""  # where it can be seen, for people

    @abstractmethod
    def __init__(self, training: Training, given: bool | str, id: str | None): ...

    @staticmethod
    @abstractmethod
    def check(given: bool | str, where: str) -> None:
        """UsageError where a library is not installed or a server does not answer."""

    def known(self, name: str) -> int:
        """The last step at which the tool has a number of this name; -1 if there is none."""
        return -1

    @abstractmethod
    def write(self, rows: list[Row]) -> None:
        """Write some rows that came one after the other."""

    @abstractmethod
    def close(self, state: State, results: Mapping[str, Any]) -> None:
        """Write what came of it, and how it ended."""


def first_line(error: Exception) -> str:
    """What an error of a library's says, as far as it can stand in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST]


def reach(url: str, where: str, expected: str) -> None:
    """UsageError where nobody answers at a URL, whatever the answer; through a proxy, where there is one."""
    try:
        urllib.request.urlopen(url, timeout=_PATIENCE).close()
    except (urllib.error.HTTPError, HTTPException):  # an answer, or a URL that only the tool understands
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # what it takes for a certificate is the tool's affair
            raise UsageError(f"nobody answers at {url}: {reason}", where=where, expected=expected) from None
