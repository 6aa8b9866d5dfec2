"""The library `transformers`, imported where it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from jichu.core.errors import missing_extra


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """The library, without its log and progress bars inside the block. UsageError where it is missing."""
    try:
        import transformers
    except ImportError:
        raise missing_extra("transformers", "transformers") from None
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield transformers
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
