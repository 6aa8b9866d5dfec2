"""Files of whoever made a folder, looked at with care: a link, a pipe or a file without end is told, and not followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import DataError

_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


@contextlib.contextmanager
def plain(path: Path) -> Iterator[int]:
    """The handle of a plain file. FileNotFoundError where there is none; DataError where it is no plain file, or cannot be
    read."""
    handle = -1
    try:
        handle = os.open(path, _FLAGS)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DataError("damaged: no plain file", where=path, expected="a plain file")
        yield handle
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "a link" if error.errno == errno.ELOOP else error.strerror or "it cannot be read"
        raise DataError(f"damaged: {what}", where=path, expected="a plain file") from None
    finally:
        if handle >= 0:
            os.close(handle)


def glance(path: Path, most: int) -> bytes | None:
    """The bytes of a plain file; None where there is none. DataError where there are more than `most`, and as of `plain`."""
    try:
        with plain(path) as handle:
            if (size := os.fstat(handle).st_size) > most:
                raise DataError(f"damaged: {size:,} bytes", where=path, expected=f"{most:,} at most")
            return os.read(handle, size)
    except FileNotFoundError:
        return None


def ending(path: Path, most: int) -> bytes:
    """The last bytes of a plain file, `most` at most; none where there is none. DataError as of `plain`."""
    try:
        with plain(path) as handle:
            return os.pread(handle, most, max(0, os.fstat(handle).st_size - most))
    except FileNotFoundError:
        return b""
