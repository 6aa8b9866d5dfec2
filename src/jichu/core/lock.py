"""One process at a time works on a run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError
from .files import writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@dataclass
class Lock:
    """The file that is held; to be told where its folder is renamed."""

    path: Path


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[Lock]:
    """Hold the file `lock` in a folder while the block runs. UsageError, naming process and machine, where
    another holds it. The system lets go of it when a process ends, however it ends; where the file system
    has no locks there is none."""
    lock = Lock(folder / "lock")
    handle = _open(lock.path)
    try:
        os.ftruncate(handle, 0)
        with writing(lock.path):
            os.write(handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
        yield lock
    finally:
        lock.path.unlink(missing_ok=True)  # while it is held, so that nobody else's is taken away
        os.close(handle)


def _open(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise UsageError(
                f"{holder} is at work on {path.parent}",
                where=path,
                expected="its end, or a run of another name",
            ) from None
        except OSError:
            return handle
        with contextlib.suppress(FileNotFoundError):  # its holder may have taken it away just now
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        found = json.loads(os.read(handle, 1000))
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
