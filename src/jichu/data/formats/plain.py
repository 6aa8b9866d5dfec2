"""Plain text, as large as it may be: read in blocks, as UTF-8, and cut into documents."""

from __future__ import annotations

import codecs
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from jichu.core.errors import DataError

from .delimited import _BOMS, _GUESSED, _GZIP, likely

Cut = Literal["file", "line", "paragraph"] | int
BLOCK = 2**23  # bytes read at a time
LONGEST = 2**30  # bytes of one document
_UTF8 = ("utf-8", "utf-8-sig")
_DAMAGED = 0.2  # share of the characters beyond ASCII that may be broken in what still counts as UTF-8
_BLANK = re.compile(rb"\n(?:[ \t]*\n)+")


def encoding_of(path: Path) -> str:
    """The encoding of a text: by its byte-order mark; UTF-8, also where a few bytes of it are damaged; else
    the likely one. DataError where it is no text."""
    pieces = _raw(path)
    head = next(pieces, b"")
    if marked := next((name for mark, name in _BOMS.items() if head.startswith(mark)), None):
        return marked
    if head.count(0) > len(head) / 10:
        raise DataError(
            "this is no text, or has no mark of its encoding",
            where=path, expected="text; or reader: {name: text, encoding: utf-16-le}",
        )  # fmt: skip
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in itertools.chain([head], pieces):
        if not _decodes(decoder, piece) and not _nearly_utf8(piece):
            return likely(piece[:_GUESSED], path)
    return "utf-8"


def _decodes(decoder: Any, piece: bytes) -> bool:
    try:
        decoder.decode(piece)
    except UnicodeDecodeError:
        decoder.reset()
        return False
    return True


def _nearly_utf8(piece: bytes) -> bool:
    text = piece.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    beyond = len(text) - sum(map(text.count, map(chr, range(128)))) if broken else 0
    return broken <= max(3, _DAMAGED * beyond) and broken < beyond  # 3: a character cut at either end


def _raw(path: Path) -> Iterator[bytes]:
    """The bytes of a file, plain or .gz."""
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == _GZIP
        with gzip.open(path) if packed else open(path, "rb") as file:
            while piece := file.read(BLOCK):
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None


def blocks(path: Path, encoding: str) -> Iterator[bytes]:
    """UTF-8 without byte-order mark and with `\\n` at the end of lines. Of what is UTF-8 already damaged bytes
    stay as they are; DataError where another encoding does not fit."""
    held, mark = b"", codecs.BOM_UTF8  # a \r whose \n may follow
    for piece in _raw(path) if encoding in _UTF8 else _recoded(path, encoding):
        piece = held + piece.removeprefix(mark)
        held, mark = b"\r" if piece.endswith(b"\r") else b"", b""
        yield piece[: len(piece) - len(held)].replace(b"\r\n", b"\n")
    if held:
        yield held


def _recoded(path: Path, encoding: str) -> Iterator[bytes]:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        for piece in _raw(path):
            yield decoder.decode(piece).encode("utf-8", "replace")
        yield decoder.decode(b"", final=True).encode("utf-8", "replace")
    except (ValueError, LookupError) as error:
        raise DataError(
            f"not readable as {encoding}: {error}", where=path, expected="reader: {name: text, encoding: …}"
        ) from None


def cut(pieces: Iterable[bytes], how: Cut, longest: int = LONGEST) -> Iterator[list[bytes]]:
    """Documents of a text, some at a time: all of it as one, its lines, its paragraphs (between blank lines),
    or pieces of at least so many bytes that end with a line; these are all of the text, put together. A
    document of more than the `longest` bytes is given as its first, so many and one."""
    held, size = [b""], 0
    for piece in pieces:
        if size <= longest:
            held.append(piece)
        size += len(piece)
        if how != "file" and b"\n" in piece:
            whole = b"".join(held)
            found, rest = _of_size(whole, how) if isinstance(how, int) else _between(whole, how)
            held, size = [rest], len(rest)
            yield [document[: longest + 1] for document in found]
    yield [b"".join(held)[: longest + 1]]


def _between(text: bytes, how: str) -> tuple[list[bytes], bytes]:
    *found, rest = text.split(b"\n") if how == "line" else _BLANK.split(text)
    return found, rest


def _of_size(text: bytes, least: int) -> tuple[list[bytes], bytes]:
    found, start = [], 0
    while (end := text.find(b"\n", start + least - 1) + 1) > 0:
        found.append(text[start:end])
        start = end
    return found, text[start:]


def valid(documents: list[bytes]) -> pa.Array:
    """As texts, null in the place of each that is none."""
    try:
        if any(len(document) > LONGEST for document in documents):
            raise pa.ArrowInvalid
        found = pa.array(documents, pa.large_binary())
        return found.cast(pa.large_string())
    except pa.ArrowInvalid:
        return pa.array([None if damage(d) else d.decode() for d in documents], pa.large_string())


def damage(document: bytes) -> str:
    """Why bytes are no text of UTF-8, or ""."""
    if len(document) > LONGEST:
        return "longer than 1 GiB; documents: line, paragraph or a number of bytes cuts it"
    try:
        document.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {document[error.start]:#04x} at {error.start}"
    return ""
