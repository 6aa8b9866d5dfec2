"""Weights & Biases: a run of a project, in a file in the run folder or on its server."""

from __future__ import annotations

import contextlib
import netrc
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from jichu.core.errors import UsageError, missing_extra

from .base import PROJECT, Row, State, Tracker, Training, reach

_CODES = {"finished": 0, "failed": 1, "interrupted": 255}  # of these the last is what it makes of Ctrl-C
_OFFLINE = ("offline", "dryrun", "disabled")
_OPENING, _CLOSING = 60.0, 30.0  # seconds that a server may take


class WandB(Tracker):
    """Rows as history, the recipe as configuration. It is offline where neither a mode nor a key is set.

    Offline a resumed training writes a second file of the same run, which `wandb sync` joins to the first.
    """

    def __init__(self, training: Training, given: bool | str, id: str | None):
        mode = _mode()
        Settings, init = _library(mode)
        self.id = id or uuid.uuid4().hex
        settings = Settings(
            console="off", silent=True, init_timeout=_OPENING, finish_timeout=_CLOSING, reinit="create_new"
        )
        said = {
            "project": ("WANDB_PROJECT", given if isinstance(given, str) else PROJECT),
            "name": ("WANDB_NAME", training.name),
            "group": ("WANDB_RUN_GROUP", training.run),
            "dir": ("WANDB_DIR", str(training.folder.path.resolve())),
        }
        ours = {key: value for key, (variable, value) in said.items() if not os.environ.get(variable)}
        with _hooks_kept():
            self._run = init(
                id=self.id,
                resume="allow",
                mode=mode,
                config=dict(training.settings),
                settings=settings,
                **ours,
            )
        # offline it does not know what another file of the run has
        self._known = training.logged if id and self._run.offline else self._run.step - 1
        place = os.path.relpath(os.path.join(self._run.dir, "..", ".."))  # with every run of this folder
        self.told = f"wandb sync {place}" if self._run.offline else (self._run.url or "")

    @staticmethod
    def check(given: bool | str, where: str) -> None:
        mode = _mode()
        _library(mode)
        if mode in _OFFLINE:
            return
        if not _key():
            raise UsageError(
                f"WANDB_MODE is {mode}, and there is no key for {_server()}", where=where,
                expected="WANDB_API_KEY, or wandb login, or WANDB_MODE=offline",
            )  # fmt: skip
        reach(_server(), where, "a network, or WANDB_MODE=offline")

    def known(self, name: str) -> int:
        return self._known

    def write(self, rows: list[Row]) -> None:
        for step, values in rows:
            self._run.log(values, step=step)

    def close(self, state: State, results: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(results))
        self._run.finish(exit_code=_CODES[state])


def _library(mode: str | None) -> tuple[Any, Any]:
    if mode in _OFFLINE:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which asks for the network
    try:
        from wandb import Settings, init  # a folder called wandb has no such names
    except ImportError:
        raise missing_extra("wandb", "wandb") from None
    return Settings, init


def _mode() -> str | None:
    """What the user has set; where that is nothing, and no key, offline."""
    return os.environ.get("WANDB_MODE") or (None if _key() else "offline")


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _key() -> bool:
    """Whether there is a key, without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(_server()).netloc) is not None
    return False


@contextlib.contextmanager
def _hooks_kept() -> Iterator[None]:
    """Without its own ways to be told of an error: we tell it."""
    before = sys.excepthook, sys.exit
    try:
        yield
    finally:
        sys.excepthook, sys.exit = before
