"""A folder of images: one subfolder a class, perhaps below train/, validation/ and test/.

Images directly in the folder, or in one named `unlabelled`, have no label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jichu.core.errors import DataError
from jichu.core.files import fingerprint

from ..source import SPLITS, Column, Source, label_column, unusable

SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
_NO_LABEL = {"unlabelled", "unlabeled", "unsup"}


def recognises(data: Any) -> bool:
    """Any folder: it is the last reader asked."""
    return isinstance(data, Path) and data.is_dir()


def read(path: Path) -> Source:
    """Columns `image` and, where there are class folders, `label`."""
    files, labels, splits, quarantine = [], [], [], []
    is_split = _top_folders_are_splits(Path(path))
    runs = {
        p.parent for p in Path(path).rglob("recipe.yaml") if (p.parent / "environment.json").exists()
    }  # our own results are not data
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        parts = file.relative_to(path).parts
        if any(part.startswith(".") for part in parts) or not runs.isdisjoint(file.parents):
            continue
        if file.suffix.lower() not in SUFFIXES:
            quarantine.append(unusable("/".join(parts), f"{file.suffix or 'no suffix'} is not an image"))
            continue
        split = SPLITS.get(parts[0].lower(), "") if is_split and len(parts) > 1 else ""
        classes = parts[1:-1] if split else parts[:-1]
        named = bool(classes) and classes[0].lower() not in _NO_LABEL
        files.append(file)
        labels.append(classes[0] if named else None)
        splits.append(split)
    if not files:
        raise DataError(
            f"no images in {path}",
            expected=f"files ending in {', '.join(sorted(SUFFIXES))}, one subfolder a class",
        )
    columns = {"image": Column("image", files)}
    if any(label is not None for label in labels):
        columns["label"] = label_column(labels)
    stats = [(f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    names = [f.relative_to(path).as_posix() for f in files]
    key = fingerprint(str(Path(path).resolve()), names, labels, stats)
    return Source(columns, names, splits if any(splits) else None, quarantine, key)


def _top_folders_are_splits(path: Path) -> bool:
    """A folder named `train` is a split where every folder beside it is one too, and a class else."""
    tops = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    named = [p for p in tops if p.name.lower() not in _NO_LABEL]
    return bool(named) and all(p.name.lower() in SPLITS for p in named)
