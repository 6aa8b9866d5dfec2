"""The board: a page over all runs, and the server behind it."""

from __future__ import annotations

import importlib.util
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jichu.core.config import check
from jichu.core.errors import missing_extra
from jichu.core.progress import say

from ..runs import Runs

if TYPE_CHECKING:
    from jichu.ship.server.process import Process

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def server(folder: str | Path = "runs", *, tokens: str | Path | None = None, **settings: Any) -> Process:
    """A board that has its address, to be run. Arguments as of `board`."""
    for library in _NEEDED:
        if importlib.util.find_spec(library) is None:
            raise missing_extra(library, "serve")
    from jichu.ship.server.process import Process

    from .app import FREE, build
    from .settings import Settings

    runs = Runs(folder)
    runs.all()  # is a folder
    file = None if tokens is None else Path(tokens)
    return Process(partial(build, runs), check(Settings, settings, where="board"), file, free=FREE)


def board(
    folder: str | Path = "runs", *, tokens: str | Path | None = None, open: bool = False, **settings: Any
) -> None:
    """Show the runs of a folder on a page until Ctrl-C or SIGTERM. `tokens` is a file that says who may look; keywords are
    host, port, rate, …

    Raises UsageError where the address is open to other machines and nobody is asked for a token."""
    made = server(folder, tokens=tokens, **settings)
    announce(made, browser=open)
    made.run()


def announce(made: Process, browser: bool = False) -> None:
    """Say where it is, and open it there."""
    say(f"the board is at {made.address}; Ctrl-C ends it")
    if browser:
        webbrowser.open(made.address)
