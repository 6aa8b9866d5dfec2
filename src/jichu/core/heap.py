"""Memory that stays with the process from step to step."""

from __future__ import annotations

import ctypes
import functools
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's numbers for mallopt
_LARGEST_KEPT = 32 * 2**20  # bytes; glibc takes no larger one


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the rest of the process. By default it gives large pieces
    back to the system, which fills them with zeros page by page when the next step asks for them again:
    up to half the time of a small network's step. Does nothing where the library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
