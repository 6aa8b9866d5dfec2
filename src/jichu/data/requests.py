"""What a server keeps of what it was asked: Parquet files with a row for each input, and corrections beside them.

LOGS/<model>/requests-*.parquet   time, request, row, version, what was read and what was answered
LOGS/<model>/feedback.jsonl       right answers, a line each, of the same input the last one holding
LOGS/<model>/inputs/              images and sounds that came with those
LOGS/<model>/served.json          the run that was asked
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from jichu.core.errors import DataError
from jichu.core.files import lines_of, read_json, read_table

from .source import Column

TIME, REQUEST, ROW, VERSION, EMBEDDING = "time", "request", "row", "version", "embedding"
INPUT, TRAIT, PREDICTION, SCORES = "input.", "trait.", "prediction.", "scores."  # before the name of a column
FILES, FEEDBACK, INPUTS, SERVED = "requests-*.parquet", "feedback.jsonl", "inputs", "served.json"
_DIGEST = 8  # bytes


def sampled(request: str, row: int, share: float) -> bool:
    """Whether a row of a request is among the share that is kept: by its name, so that it is so again."""
    digest = hashlib.blake2b(f"{request}/{row}".encode(), digest_size=_DIGEST).digest()
    return int.from_bytes(digest, "big") < share * 2 ** (8 * _DIGEST)


def folder_of(path: Path) -> Path | None:
    """The folder of one model's requests: this one, or the only one in it. DataError where there are several."""
    if (path / SERVED).is_file():
        return path
    found = sorted(file.parent for file in path.glob(f"*/{SERVED}")) if path.is_dir() else []
    if len(found) > 1:
        raise DataError(
            f"requests of {len(found)} models", where=path, expected=f"one of {', '.join(map(str, found))}"
        )
    return found[0] if found else None


def served_run(folder: Path) -> Path:
    """The run that was asked."""
    return Path(read_json(folder / SERVED, ("run",))["run"])


def files_of(folder: Path) -> list[Path]:
    """The files of requests, the earliest first."""
    return sorted(folder.glob(FILES))


def read_requests(folder: Path) -> pa.Table | None:
    """All rows that are kept, in the order in which they came; None where there are none. DataError where a file is damaged."""
    parts = [read_table(file) for file in files_of(folder)]
    if not parts:
        return None
    try:
        whole = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"the files do not fit together: {error}", where=folder) from None
    if missing := {TIME, REQUEST, ROW, VERSION} - set(whole.column_names):
        raise DataError(f"no column {sorted(missing)[0]}", where=folder, expected="files of jichu serve")
    return whole.sort_by(TIME)


def named(table: pa.Table, prefix: str) -> dict[str, pa.ChunkedArray]:
    """The columns of one sort, without what stands before their names."""
    return {n.removeprefix(prefix): table[n] for n in table.column_names if n.startswith(prefix)}


def corrections(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each right answer with the number of its line, in the order in which they were told. DataError where a line is none."""
    file = folder / FEEDBACK
    for number, (_, line) in enumerate(lines_of(file), 1):
        if not isinstance(line.get("answer"), dict):
            raise DataError(
                "no answer", where=f"{file}:{number}", expected="lines as jichu serve writes them"
            )
        yield number, line


def plain(column: Column, rows: list[int]) -> list[Any]:
    """Some cells of a typed column as numbers, texts or times."""
    values = column.values[rows]
    if column.kind == "category":
        return [column.classes[code] if code >= 0 else None for code in values.tolist()]
    if column.kind == "timestamp":
        return values.astype("datetime64[s]").tolist()
    return [None if value != value else value for value in values.tolist()]
