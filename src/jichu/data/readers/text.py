"""Plain texts and source code: one file, or the files of a folder and those below it, also `.gz`.

Whatever the encoding, the texts come out as UTF-8 with `\\n` at the end of lines; nothing else is changed.
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from jichu.core.errors import DataError
from jichu.core.files import fingerprint

from ..formats import plain
from ..large_tables import gathered
from ..source import SPLITS, Column, Names, Source, label_column, split_named, unusable
from .folder import holds, shown, top_folders_are_splits, walk

PROSE = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".srt")
CODE = (
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".java", ".js", ".jsx", ".ts", ".tsx", ".go",
    ".rs", ".rb", ".php", ".sh", ".sql", ".r", ".jl", ".lua", ".pl", ".scala", ".kt", ".swift", ".m",
)  # fmt: skip
_SAMPLE = 2**20  # bytes from which it is told how a file is cut
_PACKED = 4  # so many times as large is a .gz, about, once it is unpacked
_BLANK_LINES = re.compile(rb"\A(?:[ \t]*\n)+")  # where a block that is read ended between two paragraphs
_FIELD = re.compile(r"\{(\w+)\}")
_SCHEMA = pa.schema({"name": pa.large_string(), "text": pa.large_string(), "position": pa.int64()})


def _pattern(line: str) -> str:
    fields = _FIELD.findall(line)
    if not fields or len(set(fields)) < len(fields) or re.search(r"\}\{", line):
        raise ValueError(
            f"{line!r} cuts nothing; expected names in braces, each once and something between, such as"
            " '{label}:{fine} {text}'"
        )
    return line


Documents = Literal["auto", "file", "paragraph", "line"] | Annotated[int, Field(ge=100)]


def recognises(data: Any) -> bool:
    """A file that is called like a text, a folder that holds some and no image, or a list of texts."""
    if isinstance(data, Path):
        if data.is_file():
            return _is_text(data.name)
        return holds(data, _is_text)
    return isinstance(data, list) and bool(data) and all(isinstance(text, str) for text in data)


def _is_text(name: str, suffixes: Iterable[str] = (*PROSE, *CODE)) -> bool:
    return name.lower().removesuffix(".gz").endswith(tuple(suffixes)) and not name.startswith(".")


def read(
    path: Any, documents: Documents = "auto", encoding: str | None = None, suffixes: list[str] | None = None,
    line: Annotated[str, AfterValidator(_pattern)] | None = None, pair: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None,
    labels: bool = False, links: bool = False,
) -> Source:  # fmt: skip
    """A column `text`, a row for each file, paragraph (between blank lines), line, or piece of so many bytes
    that ends with a line; and `position`, the number of each within its file, to split by.

    `line` says what stands in a line, such as `{label}:{fine} {text}`; `pair` names the endings of files whose
    lines belong together (train.en, train.de); with `labels` the folder that a file is in is its label.
    """
    if isinstance(path, list):
        texts = pa.array(path, pa.large_string())
        return Source(
            {"text": Column("text", texts)}, Names.numbered("text", len(path)), fingerprint=fingerprint(*path)
        )
    path = Path(path)
    seen: list[Path] = [path]
    faults: list[dict[str, Any]] = []
    files = (
        [_File(path, path.name)]
        if path.is_file()
        else list(_files(path, pair or suffixes, links, seen, faults))
    )
    if not files:
        raise DataError(
            f"no texts in {path}", expected=f"files ending in {', '.join(suffixes or PROSE)}, perhaps .gz"
        )
    reading = _Reading(encoding, faults, alone=path.is_file())
    if pair:
        source = _pairs(files, pair, reading)
    else:
        how = "line" if line else _how(files, reading) if documents == "auto" else documents
        source = _texts(files, how, reading)
        if line:
            source = _fields(source, line)
        if labels:
            source.columns["label"] = label_column([f.folder for f in _each(files, source.names)])
    source.files = seen
    source.texts = tuple(n for n, c in source.columns.items() if c.kind == "text")
    source.encodings = {f: e for f, e in reading.encodings.items() if e not in ("utf-8", "utf-8-sig")}
    return source


class _File(NamedTuple):
    """A file of texts: what it is called below the root, its split, and the folder it is in."""

    path: Path
    name: str
    split: str = ""
    folder: str | None = None


class _Reading:
    """How files are decoded, and which could not be."""

    def __init__(self, encoding: str | None, faults: list[dict[str, Any]], alone: bool):
        self.declared, self.faults, self.alone = encoding, faults, alone
        self.encodings: dict[str, str] = {}

    def blocks(self, file: _File) -> Iterator[bytes]:
        """The text of a file. One of several that is no text is among the faults, and empty."""
        try:
            if file.name not in self.encodings:
                self.encodings[file.name] = self.declared or plain.encoding_of(file.path)
            yield from plain.blocks(file.path, self.encodings[file.name])
        except DataError as error:
            if self.alone:
                raise
            self.faults.append(unusable(file.name, error.what))


def _files(
    root: Path, suffixes: list[str] | None, links: bool, seen: list[Path], faults: list[dict[str, Any]]
) -> Iterator[_File]:
    """Those below a folder that are called like texts; of the others it is counted how many there are."""
    wanted = [s if s.startswith(".") else f".{s}" for s in suffixes or (*PROSE, *CODE)]
    is_split, others = top_folders_are_splits(root), collections.Counter[str]()
    for file, fault in walk(root, os.path.realpath(root), links, seen):
        parts = [shown(part) for part in file.relative_to(root).parts]
        if fault:
            faults.append(unusable("/".join(parts), fault))
        elif not _is_text(file.name, wanted):
            others[shown(file.suffix)] += 1
        else:
            if is_split and len(parts) > 1:
                split = SPLITS.get(parts[0].lower(), "")
            else:  # a module called test.py is no test set
                split = "" if _is_text(file.name, CODE) else split_named(file.name)
            yield _File(file, "/".join(parts), split, parts[-2] if len(parts) > 1 + is_split else None)
    for suffix, count in others.items():
        told = f"{count} files ending in {suffix}" if suffix else f"{count} files without an ending"
        faults.append(unusable(f"{root.name}/*{suffix}", f"{told} are not among the texts"))


def _how(files: list[_File], reading: _Reading) -> plain.Cut:
    """Several files are a document each, and so is source code; one text is cut at its blank lines, or at
    every line where it has none."""
    if len(files) > len({f.split for f in files}) or _is_text(files[0].name, CODE):
        return "file"
    head = next(reading.blocks(files[0]), b"")[:_SAMPLE]
    lines = head.strip().split(b"\n")
    blank = sum(not line.strip() for line in lines)
    return "paragraph" if blank > 0.02 * len(lines) and len(head) > 200 else "line"


def _texts(files: list[_File], how: plain.Cut, reading: _Reading) -> Source:
    size = sum(f.path.stat().st_size * (_PACKED if f.path.suffix == ".gz" else 1) for f in files)
    splits: list[str] = []
    table = gathered(_SCHEMA, _cut(files, how, splits, reading), size)
    if not len(table):
        bad = next(iter(reading.faults), unusable(files[0].name, "the file is empty"))
        raise DataError(f"no texts were found: {bad['reason']}", where=bad["record"], expected="some text")
    columns = {"text": Column("text", table["text"])}
    if how != "file":
        columns["position"] = Column("position", table["position"].to_numpy())
    return Source(columns, Names(table["name"]), splits if any(splits) else None, reading.faults, files=[])


def _cut(
    files: list[_File], how: plain.Cut, splits: list[str], reading: _Reading
) -> Iterator[pa.RecordBatch]:
    """The documents of each file, some at a time; the split of each is added to `splits`. A blank one is
    none, but is counted in its position."""
    for file in files:
        position, faults = 0, len(reading.faults)
        for found in plain.cut(reading.blocks(file), how):
            rows = []
            for document in found:
                position += 1
                if how == "paragraph":
                    document = _BLANK_LINES.sub(b"", document).rstrip()
                if document and (isinstance(how, int) or not document.isspace()):
                    name = file.name if how == "file" else f"{file.name}:{position}"
                    rows.append((name, document, position))
            made = _batch(rows, reading.faults)
            splits += [file.split] * len(made)
            yield made
            if how == "file" and not rows and len(reading.faults) == faults:
                reading.faults.append(unusable(file.name, "the file is empty"))


def _batch(rows: list[tuple[str, bytes, int]], faults: list[dict[str, Any]]) -> pa.RecordBatch:
    """Documents with their names and positions; what is no text is among the faults."""
    texts = plain.valid([document for _, document, _ in rows])
    if texts.null_count:
        there = texts.is_valid().to_pylist()
        bad = [row for row, fine in zip(rows, there, strict=True) if not fine]
        faults += [unusable(name, plain.damage(document)) for name, document, _ in bad]
        rows = [row for row, fine in zip(rows, there, strict=True) if fine]
        texts = texts.drop_null()
    names = pa.array([name for name, _, _ in rows], pa.large_string())
    return pa.record_batch([names, texts, pa.array([at for _, _, at in rows], pa.int64())], _SCHEMA)


def _fields(source: Source, line: str) -> Source:
    """Each line taken apart into columns, by what stands between them."""
    parts = _FIELD.split(line)  # text, name, text, name, …, text
    ends = ["(?s:.*)" if i == len(parts) - 2 else "(?s:.*?)" for i in range(1, len(parts), 2)]
    pattern = "^" + "".join(
        f"(?P<{parts[i]}>{ends[i // 2]})" if i % 2 else re.escape(parts[i]) for i in range(len(parts))
    ) + "$"  # fmt: skip
    cells = source.columns["text"].values
    found = pc.extract_regex(cells, pattern)
    fits = found.is_valid()
    kept = fits.to_numpy()
    if not kept.any():
        raise DataError(
            f"no line fits {line!r}",
            where=source.names[0],
            expected=f"lines like it; found {cells[0].as_py()[:100]!r}",
        )
    rows = found.filter(fits) if not kept.all() else found
    names = Names(source.names)
    faults = [unusable(names[int(i)], f"it does not fit {line!r}") for i in np.flatnonzero(~kept)]
    columns = {n: Column("text" if n == "text" else "cells", pc.struct_field(rows, n)) for n in parts[1::2]}
    columns["position"] = Column("position", source.columns["position"].values[kept])
    splits = [s for s, k in zip(source.splits, kept, strict=True) if k] if source.splits is not None else None
    return Source(columns, names.take(kept), splits, source.quarantine + faults, files=[])


def _each(files: list[_File], names: Iterable[str]) -> Iterator[_File]:
    """The file of each row."""
    by_name = {f.name: f for f in files}
    for name in names:
        yield by_name.get(name) or by_name[name.rpartition(":")[0]]


def _pairs(files: list[_File], pair: list[str], reading: _Reading) -> Source:
    """Lines of files that differ in their endings only."""
    one, two = (s if s.startswith(".") else f".{s}" for s in pair)
    named = {f.name.lower().removesuffix(".gz"): f for f in files}
    columns: dict[str, list[pa.ChunkedArray]] = {n.lstrip("."): [] for n in (one, two)}
    names: list[Names] = []
    splits: list[str] = []
    for name, file in named.items():
        other = named.get(name.removesuffix(one.lower()) + two.lower())
        if not name.endswith(one.lower()) or other is None:
            continue
        lines = [[t for part in plain.cut(reading.blocks(f), "line") for t in part] for f in (file, other)]
        lines = [text[:-1] if text and not text[-1] else text for text in lines]
        if len(lines[0]) != len(lines[1]):
            raise DataError(
                f"{len(lines[0])} lines, and {len(lines[1])} in {other.name}",
                where=file.name,
                expected="as many in both",
            )
        for column, text in zip(columns.values(), lines, strict=True):
            column.append(plain.valid(text))
        names.append(Names.numbered(file.name, np.arange(len(lines[0])) + 1))
        splits += [file.split] * len(lines[0])
    if not names:
        raise DataError(f"no files that end in {one} and {two}", expected="such as train.en and train.de")
    cells = {n: Column("text", pa.chunked_array(c, pa.large_string())) for n, c in columns.items()}
    return Source(cells, Names.joined(names), splits if any(splits) else None, reading.faults, files=[])
