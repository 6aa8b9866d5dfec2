"""Conversations in YAML, as ChatterBot's corpus has them: `conversations: [[question, answer, …], …]`; and
what JSON of conversations lies in the same folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from jichu.core.errors import DataError

from ..chats import chat_column, dumps, learnable, said
from ..formats import delimited, json_list, jsonl, parquet
from ..formats.delimited import contents, decode
from ..source import Column, Names, Source, split_named, unusable
from .folder import holds, shown, walk

_SUFFIXES = (".yml", ".yaml")
_TABLES = {suffix: kind for kind in (jsonl, json_list) for suffix in kind.SUFFIXES}
_OTHERS = (*delimited.SUFFIXES, *parquet.SUFFIXES)  # where such are, they are the data
_HEAD = 100_000  # bytes in which `conversations:` must stand
_SAID = re.compile(rb"^conversations\s*:", re.MULTILINE)
_Found = tuple[list[str | None], list[str], list[dict[str, Any]]]  # conversations, their names, what is none


def recognises(data: Any) -> bool:
    """A YAML file of conversations, or a folder that holds some, and no other tables."""
    if not isinstance(data, Path) or (data.is_dir() and not holds(data, _is_yaml)):
        return False
    files = [file for file, fault in _files(data, []) if not fault]
    if any(file.name.lower().removesuffix(".gz").endswith(_OTHERS) for file in files):
        return False
    return any(_SAID.search(_head(file)) for file in files if _is_yaml(file.name))


def _is_yaml(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def _kind(name: str) -> Any:
    name = name.lower().removesuffix(".gz")
    return next((kind for suffix, kind in _TABLES.items() if name.endswith(suffix)), None)


def _files(path: Path, seen: list[Path]) -> Iterable[tuple[Path, str]]:
    return walk(path, os.path.realpath(path), False, seen) if path.is_dir() else [(path, "")]


def _head(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(_HEAD)


def read(path: Path, encoding: str | None = None) -> Source:
    """A column of conversations, of which the first, third, … message is the person's. A file's name tells its
    split."""
    path = Path(path)
    made: list[str | None] = []
    names: list[str] = []
    splits: list[str] = []
    faults: list[dict[str, Any]] = []
    seen: list[Path] = []
    for file, fault in _files(path, seen):
        name = shown(str(file.relative_to(path))) if path != file else file.name
        try:
            if fault:
                raise ValueError(fault)
            if _is_yaml(name):
                found = _of_yaml(file, name, encoding)
            elif _kind(name):
                found = _of_table(file, name, encoding)
            else:
                raise ValueError("neither YAML nor JSON")
        except (DataError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
            faults.append(unusable(name, f"no conversations: {' '.join(str(error).split())[:200]}"))
            continue
        made += found[0]
        names += found[1]
        faults += found[2]
        splits += [split_named(file.name) if path.is_dir() else ""] * len(found[0])
    if not made:
        raise DataError(
            f"no conversations in {path}", where=faults[0]["record"] if faults else None,
            expected=f"`conversations: [[question, answer], …]`{'; ' + faults[0]['reason'] if faults else ''}",
        )  # fmt: skip
    column = Column("chat", pa.array(made, pa.large_string()))
    return Source(
        {"messages": column}, Names(names), splits if any(splits) else None, faults, files=[path, *seen]
    )


def _of_yaml(file: Path, name: str, encoding: str | None) -> _Found:
    # every cell as text, as it stands there: `no` is an answer
    found: Any = yaml.load(decode(contents(file), file, encoding), Loader=yaml.CBaseLoader)
    turns = found["conversations"]
    if not isinstance(turns, list):
        raise ValueError("a list should stand there")
    made: _Found = ([], [], [])
    for number, turn in enumerate(turns):
        try:
            made[0].append(dumps(learnable(said(turn if isinstance(turn, list) else [turn]))))
            made[1].append(f"{name}:{number}")
        except (ValueError, AttributeError) as error:
            made[2].append(unusable(f"{name}:{number}", str(error)))
    return made


def _of_table(file: Path, name: str, encoding: str | None) -> _Found:
    table, numbers, faults = _kind(name).read(file, encoding=encoding)
    chat = chat_column(table)
    if chat is None:
        raise ValueError(f"only the columns {', '.join(table.column_names[:10])}")
    said_there, wrong = chat[1].values.to_pylist(), chat[1].faults
    records = [f"{name}:{number}" for number in numbers]
    whole = [i for i in range(len(records)) if i not in wrong]
    broken = [fault | {"record": name + fault["record"].removeprefix(file.name)} for fault in faults]
    broken += [unusable(records[i], why) for i, why in wrong.items()]
    return [said_there[i] for i in whole], [records[i] for i in whole], broken
