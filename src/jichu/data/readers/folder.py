"""What is in a folder: files of one kind, perhaps one subfolder a class, perhaps below train/, validation/ and
test/. Those directly in the folder, or in one named `unlabelled`, have no label.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pydantic import AfterValidator

from jichu.core.errors import DataError

from ..media import KINDS, MEDIA
from ..source import SPLITS, Column, Source, label_column, unusable

_A = {"image": "an image", "audio": "a sound"}
_NO_LABEL = {"unlabelled", "unlabeled", "unsup"}


def media(path: Path, kind: str, pattern: str | None, links: bool) -> Source:
    """A column of images or sounds, whichever `kind` says; where there are class folders `label`; and one for each
    named group of `pattern`, which is looked for in the names of the files."""
    root = Path(path)
    what = {"image": "images", "audio": "sounds"}[kind]
    if not root.is_dir():
        raise DataError(f"{path} is no folder", expected=f"a folder of {what}")
    suffixes = KINDS[kind].suffixes
    files, names, labels, splits, quarantine = [], [], [], [], []
    is_split = top_folders_are_splits(root)
    seen: list[Path] = []
    told: list[dict[str, str]] = []
    for file, fault in walk(root, os.path.realpath(root), links, seen):
        parts = [shown(part) for part in file.relative_to(root).parts]
        if not fault and file.suffix.lower() not in suffixes:
            fault = f"{shown(file.suffix) or 'no suffix'} is not {_A[kind]}"
        match = re.search(pattern, "/".join(parts)) if pattern else None
        if not fault and pattern and match is None:
            fault = f"its name does not match the pattern {pattern}"
        if fault:
            quarantine.append(unusable("/".join(parts), fault))
            continue
        split = SPLITS.get(parts[0].lower(), "") if is_split and len(parts) > 1 else ""
        classes = parts[1:-1] if split else parts[:-1]
        named = bool(classes) and classes[0].lower() not in _NO_LABEL
        files.append(file)
        names.append("/".join(parts))
        labels.append(classes[0] if named else None)
        splits.append(split)
        told.append(match.groupdict() if match else {})
    if not files:
        raise DataError(
            f"no {what} in {path}",
            where=quarantine[0]["record"] + ": " + quarantine[0]["reason"] if quarantine else None,
            expected=f"files ending in {', '.join(sorted(suffixes))}, one subfolder a class",
        )
    columns = {kind: Column(kind, files)}
    if any(label is not None for label in labels):
        columns["label"] = label_column(labels)
    for name in told[0]:
        columns[name] = Column("cells", pa.array([row[name] for row in told], pa.string()))
    return Source(columns, names, splits if any(splits) else None, quarantine, files=seen)


def with_groups(pattern: str) -> str:
    """A regular expression that names what it finds; ValueError where it is none."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}; expected one") from None
    if taken := sorted({"image", "audio"} & set(groups)):
        raise ValueError(f"{pattern!r} names a group {taken[0]!r}; expected another name")
    if not groups:
        raise ValueError(
            f"{pattern!r} names no group; expected some, such as (?P<speaker>[a-z]+) for a column speaker"
        )
    return pattern


Pattern = Annotated[str, AfterValidator(with_groups)]


def holds(folder: Path, wanted: Callable[[str], bool], others: frozenset[str] = MEDIA) -> bool:
    """Whether a folder, or one below it, has a file of a wanted name, and none that ends as the
    `others` do, by default images and sounds."""
    found = False
    for _, _, names in os.walk(folder):
        if any(name.lower().endswith(tuple(others)) for name in names):
            return False
        found = found or any(map(wanted, names))
    return found


def walk(folder: Path, root: str, links: bool, seen: list[Path]) -> Iterator[tuple[Path, str]]:
    """Each file below a folder, in the order of their names, and why it cannot be used, or "". All that
    was looked at, the folders too, is added to `seen`."""
    seen.append(folder)
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        yield folder, f"cannot be read: {error.strerror}"
        return
    if {"recipe.yaml", "environment.json"} <= {p.name for p in entries}:
        return  # our own results are not data
    for path in entries:
        fault = _fault_of_link(path, root, links) if path.is_symlink() else ""
        if path.is_dir() and not fault:
            yield from walk(path, root, links, seen)
        else:
            seen.append(path)
            yield path, fault or ("" if path.is_file() else "neither a file nor a folder")


def _fault_of_link(path: Path, root: str, links: bool) -> str:
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return "a broken link"
    if not links and os.path.commonpath([root, target]) != root:
        return "a link out of the folder, which reader: {name: image_folder, links: true} would follow"
    if os.path.commonpath([os.path.realpath(path.parent), target]) == target:
        return "a link to a folder that it stands in"
    return ""


def shown(name: str) -> str:
    """A file's name as text, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def top_folders_are_splits(path: Path) -> bool:
    """A folder named `train` is a split where every folder beside it is one too, and a class else."""
    tops = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    named = [p for p in tops if p.name.lower() not in _NO_LABEL]
    return bool(named) and all(p.name.lower() in SPLITS for p in named)
