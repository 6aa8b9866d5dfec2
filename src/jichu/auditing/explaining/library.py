"""The library `captum`, imported where it is used."""

from __future__ import annotations

from typing import Any

from jichu.core.errors import missing_extra


def captum() -> Any:
    """`captum.attr`. UsageError where it is missing."""
    try:
        import captum.attr
    except ImportError:
        raise missing_extra("captum", "explain") from None
    return captum.attr
