"""The lines of a recipe, each with its comment."""

from __future__ import annotations

import re
from typing import Any

from jichu.core.config import dump_yaml

Key = tuple[str, Any, str]  # a key of the recipe, its value, and why


def line(key: Key) -> str:
    """Key, value and comment."""
    name, value, why = key
    return f"{dump_yaml(name, inline=True)}: {dump_yaml(value, inline=True)}" + (
        f"  # {told(why, 200)}" if why else ""
    )


def hint(name: str, value: str, why: str, quoted: bool = False) -> str:
    """A line that is only a proposal."""
    written = name if quoted else dump_yaml(name, inline=True)
    return f"# {written}: {dump_yaml(value, inline=True)}  # {told(why, 200)}"


def told(text: str, most: int = 80) -> str:
    """As it can stand in a comment: on one line, printable, not too long."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def run_name(path: str) -> str:
    """What a run of these data may be called."""
    last = path.rstrip("/\\").replace("\\", "/").rpartition("/")[2].removeprefix("sklearn:")
    stem = re.sub(r"\.(csv|tsv|jsonl?|parquet|txt)(\.gz)?$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:60] or "recipe"
