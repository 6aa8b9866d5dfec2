"""Files that are either whole or not there: written aside, flushed, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import DataError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes that file's place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """JSON has no NaN and no tensors: not-finite numbers become null, arrays become lists."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text in UTF-8, valid for every JSON reader."""
    return json.dumps(_plain(value), ensure_ascii=False, indent=indent, default=str)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, dumps(value, indent=2) + "\n")


def read_json(path: str | Path, keys: Collection[str] | None = None) -> Any:
    """Read a JSON file, with `keys` an object that has them. DataError where it is damaged."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if keys is not None and not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__} where a JSON object should be")
        if missing := [key for key in keys or () if key not in found]:
            raise ValueError(f"the key {missing[0]!r} is missing")
        return found
    except (OSError, ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise DataError(f"damaged: {error}", where=path, expected="JSON as it was written") from None


@contextlib.contextmanager
def told_as_damaged(path: Path, expected: str = "the file as it was written") -> Iterator[None]:
    """DataError where what stands in a file, though it can be read, is not what was written into it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        told = str(error).split("\n")[0]
        raise DataError(f"damaged: {type(error).__name__}: {told}", where=path, expected=expected) from error


def append_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a JSON-lines file, in one write."""
    text = "".join(dumps(row) + "\n" for row in rows)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; [] where there is none. A half-written last line is left out."""
    path = Path(path)
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"damaged: {error}", where=path, expected="a JSON object a line") from None


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits that depend on every part."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where decoded data is kept: `$JICHU_CACHE`, or `~/.cache/jichu`."""
    return Path(os.environ.get("JICHU_CACHE") or Path.home() / ".cache" / "jichu")
