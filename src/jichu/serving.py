"""Runs served to other programs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jichu.adapt.bases import Bases
from jichu.core.config import check
from jichu.core.errors import UsageError, missing_extra
from jichu.core.progress import say
from jichu.runs import Run
from jichu.ship.onnx_model import OnnxModel

if TYPE_CHECKING:
    from jichu.ship.server.running import Running

_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def server(
    runs: str | Path | Sequence[str | Path], *, tokens: str | Path | None = None, **settings: Any
) -> Running:
    """A server whose models are loaded and which has its address, to be run. Arguments as of `serve`."""
    for library in _NEEDED:
        if importlib.util.find_spec(library) is None:
            raise missing_extra(library, "serve")
    from jichu.ship.server.running import Running
    from jichu.ship.server.settings import Settings

    paths = named([runs] if isinstance(runs, (str, Path)) else runs)
    file = None if tokens is None else Path(tokens)
    return Running(paths, opener(), check(Settings, settings, where="serve"), file)


def serve(
    runs: str | Path | Sequence[str | Path], *, tokens: str | Path | None = None, **settings: Any
) -> None:
    """Answer over HTTP until Ctrl-C or SIGTERM. A run is a folder or an .onnx file of `export`, or `NAME=` one; `tokens` is a file that says who may
    ask. Keywords are those of `jichu serve --set`: host, port, batch, wait, queue, rows, body, timeout, rate, …

    Raises UsageError where the address is open to other machines and nobody is asked for a token."""
    made = server(runs, tokens=tokens, **settings)
    announce(made)
    made.run()


def announce(made: Running) -> None:
    """Say what is served, and where."""
    at = made.address
    say(f"serving {', '.join(made.versions)} at {at}; {at}/docs tells how to ask; Ctrl-C ends it")


def opener() -> Callable[[Path], Run | OnnxModel]:
    """What reads models of paths: of runs on one base the weights are in memory once."""
    bases = Bases()
    return lambda path: OnnxModel(path) if path.suffix == ".onnx" else Run(path, bases=bases)


def named(runs: Sequence[str | Path]) -> dict[str, Path]:
    """The folders of runs by the names under which they are served. UsageError where two have the same."""
    found: dict[str, Path] = {}
    for run in runs:
        name, equals, path = str(run).partition("=")
        if not equals or Path(run).exists():
            name, path = Path(run).resolve().name.removesuffix(".onnx"), str(run)
        if not name or "/" in name:
            raise UsageError(f"{name!r} is no name for a model", expected="NAME=RUN")
        if name in found:
            raise UsageError(f"two runs are called {name}", expected="a name for one of them: NAME=RUN")
        found[name] = Path(path).absolute()  # by which errors that name it are known
    return found
