"""Files that are either whole or not there: written aside, flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from .errors import DataError, DiskFull

_FULL = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the system lets no file grow so large",
}
# as mkstemp and mkdtemp name what is written aside, and as safetensors does
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}|\.tmp[A-Za-z0-9]{6}")


def _beside(path: Path) -> str:
    """How the name of what this process makes to take the place of `path` begins. What killed processes of this
    machine left there is removed."""
    begin = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(begin)}*"):
        process = left.name.removeprefix(begin).partition(".")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return f"{begin}{os.getpid()}."


@contextlib.contextmanager
def replacing(path: str | Path, size: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes that file's place, and stays
    there whatever happens to the power. DiskFull, which tells the `size` in bytes, where there is no room."""
    path = Path(path)
    with writing(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_beside(path), dir=path.parent)
        temporary = Path(name)
        try:
            os.close(handle)
            yield temporary
            flush(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path, size: int | None = None) -> Iterator[None]:
    """What fails in the block for want of space becomes one DiskFull: which file, what it needs, what there
    is and what could be freed."""
    try:
        yield
    except Exception as error:  # safetensors and numpy have errors of their own for it
        code = _want_of_space(error)
        if code is None:
            raise
        raise _disk_full(path, size, code) from None


def _want_of_space(error: Exception) -> int | None:
    code = getattr(error, "errno", None)
    if code is None and (found := re.search(r"os error (\d+)", str(error))):  # Rust
        code = int(found[1])
    if code is None and isinstance(error, OSError) and "written" in str(error):  # numpy's tofile
        code = errno.ENOSPC
    return code if code in _FULL else None


def _disk_full(path: Path, size: int | None, code: int) -> DiskFull:
    folder = next(p for p in path.absolute().parents if p.exists())
    free = f"{_amount(shutil.disk_usage(folder).free)} are free"
    expected = f"more room; {free}" if size is None else f"room for {_amount(size)}; {free}"
    if code == errno.EFBIG:
        return DiskFull(_FULL[code], where=path, expected=f"room for {_amount(size)}" if size else None)
    may_go = []
    cache = cache_folder()
    if cache.exists() and cache.stat().st_dev == folder.stat().st_dev:
        kept = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
        may_go.append(f"the cache of decoded data {cache} ({_amount(kept)})")
    may_go.append("runs no longer needed")
    return DiskFull(_FULL[code], where=path, expected=f"{expected}; may be deleted: {', '.join(may_go)}")


def _amount(size: int) -> str:
    return f"{size / 2**10:,.0f} KiB" if size < 2**20 else f"{size / 2**20:,.0f} MiB"


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, written through to the disk."""
    folder = path.is_dir()
    # not every file system can do it for folders
    with contextlib.suppress(OSError) if folder else writing(path):
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written anywhere in a folder that is ours alone."""
    for path in folder.rglob(".*"):
        if _LEFTOVER.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`, to make in it what is renamed to `path` once it is whole; what is not
    renamed is removed. So is what processes of this machine left that were killed over the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f"{_beside(path)}{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """`target` becomes the same file as `source`, or a copy where the file system has no links."""
    with replacing(target, source.stat().st_size) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    data = text.encode()
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


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


def remember(path: Path, value: Any) -> None:
    """Write JSON to the cache, and remove what killed processes left there. A cache that cannot be written to
    is no reason to stop."""
    with contextlib.suppress(OSError, DiskFull):
        sweep(path.parent)
        write_json(path, value)


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


def append_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a JSON-lines file, in one write."""
    data = "".join(dumps(row) + "\n" for row in rows).encode()
    with writing(Path(path), len(data)), open(path, "ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; [] where there is none. A half-written last line is left out.
    DataError where another is no row."""
    return [row for _, row in lines_of(path)]


def lines_of(path: str | Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of a JSON-lines file as they stand, each with the row in it, as `read_jsonl` has them."""
    path, found = Path(path), []
    if path.is_dir():
        raise _no_row(path, 1, "a folder")
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else (), 1):
        try:
            row = json.loads(line) if line else None
        except (ValueError, RecursionError) as error:
            raise _no_row(path, number, str(error)) from None
        if row is not None and not isinstance(row, dict):
            raise _no_row(path, number, f"found {type(row).__name__}")
        if row is not None:
            found.append((line, row))
    return found


def _no_row(path: Path, number: int, why: str) -> DataError:
    cure = "a JSON object on each line; without that line the file can be read"
    return DataError(f"damaged: {why}", where=f"{path}:{number}", expected=cure)


def write_table(path: str | Path, table: Any) -> None:
    """Write an Arrow table as Parquet, atomically."""
    import pyarrow.parquet  # here, because the command line does without

    with replacing(path, table.nbytes) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def read_table(path: str | Path) -> Any:
    """Read a Parquet file into an Arrow table. DataError where it is damaged."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:  # read_table would import pandas
            return file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"damaged: {error}", where=path, expected="Parquet as it was written") from None


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits that depend on every part; of bytes and what holds such, on the bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = memoryview(part if isinstance(part, (bytes, memoryview)) else repr(part).encode())
        digest.update(data.nbytes.to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def fingerprint_of_file(path: str | Path) -> str:
    """16 hexadecimal digits that depend on every byte of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def cache_folder() -> Path:
    """Where decoded data is kept: `$JICHU_CACHE`, or `~/.cache/jichu`."""
    return Path(os.environ.get("JICHU_CACHE") or Path.home() / ".cache" / "jichu")
