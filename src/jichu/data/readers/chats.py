"""Conversations in YAML, as ChatterBot's corpus has them: `conversations: [[question, answer, …], …]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from jichu.core.errors import DataError

from ..chats import dumps, learnable, said
from ..formats.delimited import contents, decode
from ..source import Column, Names, Source, unusable
from .image_folder import holds

_SUFFIXES = (".yml", ".yaml")
_HEAD = 100_000  # bytes in which `conversations:` must stand


def recognises(data: Any) -> bool:
    """A YAML file of conversations, or a folder that holds some."""
    if not isinstance(data, Path) or (data.is_dir() and not holds(data, _is_yaml)):
        return False
    return any(b"conversations:" in _head(file) for file in _files(data))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [p for p in found if _is_yaml(p.name) and p.is_file()]


def _head(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(_HEAD)


def read(path: Path, encoding: str | None = None) -> Source:
    """A column of conversations, of which the first, third, … message is the person's."""
    files = _files(Path(path))
    made, names, faults = [], [], []
    for file in files:
        name = str(file.relative_to(path)) if path != file else file.name
        try:
            # every cell as text, as it stands there: `no` is an answer
            found: Any = yaml.load(decode(contents(file), file, encoding), Loader=yaml.CBaseLoader)
            turns = found["conversations"]
            if not isinstance(turns, list):
                raise ValueError("a list should stand there")
        except (DataError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
            faults.append(unusable(name, f"no conversations: {' '.join(str(error).split())[:200]}"))
            continue
        for number, turn in enumerate(turns):
            try:
                made.append(dumps(learnable(said(turn if isinstance(turn, list) else [turn]))))
                names.append(f"{name}:{number}")
            except (ValueError, AttributeError) as error:
                faults.append(unusable(f"{name}:{number}", str(error)))
    if not made:
        raise DataError(
            f"no conversations in {path}", where=faults[0]["record"] if faults else None,
            expected=f"`conversations: [[question, answer], …]`{'; ' + faults[0]['reason'] if faults else ''}",
        )  # fmt: skip
    folders = [p for p in Path(path).rglob("*") if p.is_dir()] if Path(path).is_dir() else []
    column = Column("chat", pa.array(made, pa.large_string()))
    return Source({"messages": column}, Names(names), quarantine=faults, files=[Path(path), *folders, *files])
