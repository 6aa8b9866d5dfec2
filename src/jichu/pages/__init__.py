"""What pages are made of: one look, and the scripts that are sent as they stand here, without a build step."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def static(name: str) -> bytes:
    """A file of this folder."""
    return (HERE / name).read_bytes()
