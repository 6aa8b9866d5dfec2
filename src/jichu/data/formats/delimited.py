"""Text with delimiters (CSV, TSV), whatever its encoding, delimiter and header."""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from jichu.core.errors import DataError
from jichu.core.limits import free_memory

from ..large_tables import gathered
from ..source import unusable

SUFFIXES = (".csv", ".tsv", ".tab")
_DELIMITERS = ",;\t|"
_SAMPLE = 100_000  # characters from which, and from the rest of that line, delimiter and header are told
_REPEATED = 0.01  # share of the lines from which a cell is there again and again
_PROSE = 5  # words that make a text, or half as many Chinese characters
_GUESSED = 2_000_000  # bytes from which an encoding is guessed
_HIGH, _ALONE = re.compile(rb"[\x80-\xff]+"), 0.6  # and the share of these that stand alone in a Western text
_BLOCK = 2**23  # bytes looked at together
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # bytes that are unpacked at a time
_BOMS = {  # the marks of UTF-32 first: one of them begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read(
    path: Path, encoding: str | None = None, delimiter: str | None = None, header: bool | None = None,
    columns: list[str] | None = None,
) -> tuple[pa.Table, np.ndarray, list[dict[str, Any]]]:  # fmt: skip
    """Every cell as text; the numbers of the rows (from 1, the header not counted); and the records
    with too few or too many cells. DataError where it is no such text, is empty or names a column twice."""
    file, encoding = utf8(path, encoding)
    text = _head(file).decode()
    lines = list(io.StringIO(text, newline=""))
    if not any(line.strip() for line in lines):
        raise DataError("the file is empty", where=path, expected="a line of column names and rows below it")
    delimiter = delimiter or ("\t" if path.name.lower().endswith((".tsv", ".tab")) else _delimiter(lines))
    first, *rest = _rows(lines, delimiter) or [[""]]
    has_header = _looks_named(first, rest) if header is None else header
    names = columns or (
        [c.strip() for c in first] if has_header else [f"c{i + 1}" for i in range(len(first))]
    )
    if len(names) != len(first):
        raise DataError(
            f"{len(names)} column names for {len(first)} columns", where=path, expected=f"{len(first)} names"
        )
    refuse_repeated(names, path)
    faults: list[tuple[int, str]] = []

    def bad(row: Any) -> str:
        cells = f"{row.actual_columns} cells, not {row.expected_columns}"
        if lines := row.text.count("\n"):
            cells += f"; with the {lines} lines after it, which an open quote takes"
        faults.append((row.number - has_header, cells))
        return "skip"

    quoted, size = any(b'"' in block for block in _blocks(file)), file.size()
    file.seek(0)
    # one thread, because only then a bad row is told by its number
    with pyarrow.csv.open_csv(
        file,
        pyarrow.csv.ReadOptions(use_threads=False, column_names=names, skip_rows=0, skip_rows_after_names=int(has_header), block_size=_BLOCK),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=quoted, invalid_row_handler=bad),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    ) as reader:  # fmt: skip
        table = gathered(reader.schema, reader, size).replace_schema_metadata({"encoding": encoding})
    bad_rows = {number for number, _ in faults}
    if not len(table) and not bad_rows:
        raise DataError("no rows", where=path, expected="rows below the line of column names")
    if bad_rows and len(bad_rows) > len(table):
        number, cells = faults[0]
        raise DataError(
            f"{len(bad_rows)} of {len(bad_rows) + len(table)} rows do not fit the first line", where=f"{path}:{number}",
            expected=f"{len(names)} cells between {delimiter!r}, found {cells}; reader: {{name: table, delimiter: …}}",
        )  # fmt: skip
    numbers = np.delete(np.arange(len(table) + len(bad_rows)), [n - 1 for n in bad_rows]) + 1
    return table, numbers, [unusable(f"{path.name}:{n}", cells) for n, cells in faults]


def utf8(path: Path, encoding: str | None = None) -> tuple[pa.NativeFile, str]:
    """The text of a file as UTF-8 without a byte-order mark, which is the file itself where it is that
    already; and the encoding it is in."""
    if encoding is None:
        file = pa.OSFile(str(path))
        head = file.read(_SAMPLE)
        if not head.startswith((*_BOMS, _GZIP)) and b"\0" not in head and _is_utf8(file):
            return file, "utf-8"
    raw = contents(path)
    encoding = encoding or encoding_of(raw, path)
    return pa.BufferReader(decode(raw, path, encoding).encode()), encoding


def _blocks(file: pa.NativeFile) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(_BLOCK):
        yield block


def _is_utf8(file: pa.NativeFile) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(file):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _head(file: pa.NativeFile) -> bytes:
    """The first lines, or all where there are few."""
    file.seek(0)
    head = file.read(_SAMPLE)
    while more := file.read(_SAMPLE):
        line, newline, _ = more.partition(b"\n")
        head += line
        if newline:
            break
    return head


def contents(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file, plain or .gz, and of them at most the first `most`. DataError where it is damaged,
    or unpacks to more than a quarter of the free memory."""
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP
    room = free_memory() // 4 if packed else path.stat().st_size
    raw = bytearray()
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            while len(raw) <= room and (piece := file.read(min(_PIECE, most - len(raw)) if most else _PIECE)):
                raw += piece
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot decompress: {error}", where=path) from None
    if len(raw) > room:
        raise DataError("it unpacks to more than memory takes", where=path, expected="smaller files")
    return bytes(raw)


def decode(raw: bytes, path: Path, encoding: str | None = None) -> str:
    """Text in a given encoding; else by its byte-order mark, as UTF-8, or as is likely from the bytes."""
    encoding = encoding or encoding_of(raw, path)
    try:
        return raw.decode(encoding)
    except (ValueError, LookupError) as error:
        raise DataError(
            f"not readable as {encoding}: {error}", where=path, expected="reader: {name: table, encoding: …}"
        ) from None


def encoding_of(raw: bytes, path: Path) -> str:
    """That of bytes which `decode` reads: by the mark, UTF-8, or the likely one."""
    marked = next((name for mark, name in _BOMS.items() if raw.startswith(mark)), "")
    if not marked and raw.count(0, 0, _SAMPLE) > len(raw[:_SAMPLE]) / 10:
        raise DataError(
            "this is no text, or has no mark of its encoding",
            where=path, expected="text; or reader: {name: table, encoding: utf-16-le}",
        )  # fmt: skip
    try:
        raw.decode(marked or "utf-8")
    except UnicodeDecodeError:
        return likely(raw, path)
    return marked or "utf-8"


def likely(raw: bytes, path: Path) -> str:
    """The encoding that bytes which are no UTF-8 seem to be in. DataError where it is none.

    Bytes above 127 that stand alone among ASCII are letters with accents, of Western Europe unless declared
    otherwise: from a few of them nobody can tell more. Runs of them are left to charset_normalizer.
    """
    raw = raw[:_GUESSED]
    runs = _HIGH.findall(raw)
    if runs and len(runs) > _ALONE * sum(map(len, runs)):
        # five bytes are no character in cp1252
        return "latin-1" if re.search(rb"[\x81\x8d\x8f\x90\x9d]", raw) else "cp1252"
    import charset_normalizer

    found = charset_normalizer.from_bytes(raw).best()
    if found is None:
        raise DataError("this is no text", where=path, expected="text; or reader: {name: …, encoding: …}")
    return found.encoding


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    """Those up to a cell of more than 131,072 characters, which the csv module does not take."""
    rows = []
    with contextlib.suppress(csv.Error):
        for row in csv.reader(lines, delimiter=delimiter):
            rows += [row] if row else []
    return rows


def _delimiter(lines: list[str]) -> str:
    """The one that cuts most lines into the same number of cells, more than one."""

    def agreement(delimiter: str) -> tuple[int, int]:
        counts = collections.Counter(len(row) for row in _rows(lines[:100], delimiter))
        cells, often = max(counts.items(), key=lambda item: (item[0] > 1, item[1]), default=(0, 0))
        return (often if cells > 1 else 0), cells

    return max(_DELIMITERS, key=agreement)


def _looks_named(first: list[str], rest: list[list[str]]) -> bool:
    """A first line without any number is a header, unless all of it is repeated below, or it is a text with a
    cell that stands there again and again."""
    if any(map(_is_number, first)):
        return False
    again = [sum(row[i : i + 1] == [cell] for row in rest) for i, cell in enumerate(first)]
    often = max(1, _REPEATED * len(rest))
    labelled = any(n > often for n in again) and any(
        not n and _is_prose(c) for n, c in zip(again, first, strict=True)
    )
    return not (all(again) or labelled)


def _is_prose(cell: str) -> bool:
    return len(cell.split()) >= _PROSE or sum(c > "\u2e80" for c in cell) >= 2 * _PROSE


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in ("nan", "inf", "infinity")


def refuse_repeated(names: list[str], where: object) -> None:
    """DataError where two columns have one name."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"the column {repeated[0]!r} stands there {names.count(repeated[0])} times", where=where,
            expected="another name for each; or reader: {name: table, columns: [all the names]}",
        )  # fmt: skip
