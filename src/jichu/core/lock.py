"""One process at a time works on a run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from .errors import DataError, UsageError
from .files import writing
from .glance import glance

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LONGEST = 1000  # bytes of what a lock says
_TICK = 1.0  # seconds by which clocks of files and of processes may differ


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
    return str(_told(os.read(handle, _LONGEST)) or "another process")


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _told(written: bytes) -> Holder | None:
    try:
        found = json.loads(written)
        return Holder(int(found["pid"]), str(found["host"])[:200])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def holder(folder: Path) -> Holder | None:
    """Who works on a folder. None where nobody does, as when a process was killed and its file is left; and where what the
    file says is not so."""
    path = folder / "lock"
    try:
        held = _told(glance(path, _LONGEST) or b"")
        # a process of this machine that began after the file was written has no more than the same number
        if held is None or (held.host == platform.node() and not _is_older(held.pid, path.stat().st_mtime)):
            return None
        return held if _is_locked(path) else None
    except (OSError, DataError):
        return None


def _is_older(pid: int, time: float) -> bool:
    try:
        return psutil.Process(pid).create_time() <= time + _TICK
    except (psutil.Error, ValueError, OverflowError):
        return False


def _is_locked(path: Path) -> bool:
    if fcntl is None:
        return True
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(handle)


def interrupt(folder: Path) -> Holder:
    """Ask the process that works on a folder to stop, as Ctrl-C does. UsageError where there is none, or none that can be
    asked from here."""
    held = holder(folder)
    if held is None:
        raise UsageError(f"nothing works on {folder.name}", expected="a run that is running")
    if held.host != platform.node():
        raise UsageError(f"{held} is at work", expected="the same from that machine")
    try:
        process = psutil.Process(held.pid)
        if not _has_open(process, folder / "lock"):
            raise UsageError(
                f"{held} does not hold the lock of {folder.name}", expected="the process that does"
            )
        # refused where the number is another process's by now
        process.send_signal(signal.SIGINT if _hears(held.pid) else signal.SIGTERM)
    except psutil.AccessDenied:
        raise UsageError(f"{held} is another user's", expected="the same by that user") from None
    except psutil.NoSuchProcess:
        raise UsageError(f"{held} has ended", expected="a run that is running") from None
    return held


def _hears(pid: int) -> bool:
    """Whether a process does not ignore SIGINT, as those do that a shell began in the background."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # another system
        return True
    ignored = re.search(r"^SigIgn:\s*([0-9a-f]+)$", told, re.MULTILINE)
    return ignored is None or not int(ignored[1], 16) >> (signal.SIGINT - 1) & 1


def _has_open(process: psutil.Process, path: Path) -> bool:
    meant = os.stat(path)
    for file in process.open_files():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(file.path), meant):
                return True
    return False
