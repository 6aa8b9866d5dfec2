"""Readers: a path or an object in, a `Source` out. Each file has `recognises` and `read`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from jichu.core.config import Spec
from jichu.core.errors import DataError, nearest
from jichu.core.names import construct

from ..source import Source

# In the order in which they are asked whether they recognise what they are given.
READERS = {
    name: f"jichu.data.readers.{name}:read"
    for name in (
        "sklearn",
        "idx",
        "cifar",
        "feedback",
        "chats",
        "table",
        "text",
        "arrays",
        "audio_folder",
        "image_folder",
    )
}


def read(data: Any, reader: Spec | None = None) -> Source:
    """Read `data` with the named reader, or with the first that recognises it.

    Raises DataError for a path that is not there, holds nothing, or is of no known kind.
    """
    if isinstance(data, str) and (":" not in data or os.path.exists(data)):
        data = Path(data).expanduser()
    if isinstance(data, Path) and not os.path.exists(data):  # False where even the question is an error
        near = nearest(data.name, os.listdir(data.parent) if os.path.isdir(data.parent) else [])
        raise DataError(
            f"{data} is not there",
            expected="a folder or a file",
            nearest=data.parent / near if near else None,
        )
    if isinstance(data, Path) and not (data.is_file() or data.is_dir()):
        raise DataError(
            f"{data} is neither a folder nor a file", expected="one of them, not a pipe or a device"
        )
    try:
        return _read(data, reader)
    except DataError as error:
        if error.where is not None or not isinstance(data, (str, Path)):
            raise
        raise DataError(error.what, where=data, expected=error.expected, nearest=error.nearest) from None
    except MemoryError:
        told = data if isinstance(data, (str, Path)) else f"this {type(data).__name__}"
        raise DataError(f"{told} takes more memory than there is", expected="smaller files") from None


def _read(data: Any, reader: Spec | None) -> Source:
    if reader is not None:
        return construct("reader", reader, READERS, where="data.reader", path=data)()
    for path in READERS.values():
        module = importlib.import_module(path.partition(":")[0])
        if module.recognises(data):
            return module.read(data)
    raise DataError(
        f"no reader recognises {data if isinstance(data, (str, Path)) else type(data).__name__}",
        expected="a folder of images or sounds (one subfolder a class), CSV, TSV, JSON, JSON lines or Parquet, texts, idx or"
        " CIFAR files, a data frame, arrays (inputs, labels), or sklearn:digits",
    )
