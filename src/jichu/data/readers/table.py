"""Tables: CSV, TSV, JSON, JSON lines, Parquet, data frames, Arrow tables, Hugging Face `datasets`.

One file, or a folder of files whose names tell their split (`train-0.parquet`, `adult-test.csv.gz`). A
column of images or sounds is binary, `struct{bytes, path}` as in the Hugging Face layout, or names files.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator

from jichu.core.errors import DataError, unknown
from jichu.core.files import fingerprint

from ..chats import chat_column, may_hold_chats
from ..formats import delimited, json_list, jsonl, parquet
from ..media import KINDS, MEDIA
from ..source import SPLITS, Column, Names, Source, split_named, unusable
from ..types import is_text, words

_FORMATS = {suffix: kind for kind in (delimited, jsonl, json_list, parquet) for suffix in kind.SUFFIXES}
_TRIED = 50  # cells looked at before a column of texts counts as one of images or sounds
_LOOKED_AT, _LEAST, _WORDS = 10_000, 20, 3  # rows from which names are given, at least, and words of a text
_MANY, _AGAIN = 0.5, 0.1  # least and most share of different cells, of texts and of labels
_LISTS = {"metadata", "labels", *SPLITS}  # how a list of files is called


def _one_character(delimiter: str) -> str:
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ValueError(f"{delimiter!r} delimits nothing; expected one character of ASCII, such as ; or |")
    return delimiter


def recognises(data: Any) -> bool:
    """A table file, a folder that holds some, or a table in memory."""
    return bool(_files(data)) if isinstance(data, Path) else _in_memory(data) is not None


def _format(path: Path) -> Any:
    name = path.name.lower().removesuffix(".gz")
    return next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix)), None)


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.is_file() and p.name[0] != "." and _format(p))


def _files(path: Path) -> list[Path]:
    """The tables in a folder (or its `data`), all of the first kind found. Among images or sounds other
    text than a list of them counts for nothing."""
    if not path.is_dir():
        return [path] if _format(path) else []
    for folder in (path, path / "data"):
        found = _tables(folder)
        for kind in (parquet, delimited, jsonl, json_list):
            mine = [p for p in found if _format(p) is kind]
            listed = kind in (delimited, jsonl) and any(
                p.name.lower().partition(".")[0] in _LISTS for p in mine
            )
            listing = kind is parquet or listed
            if mine and (listing or not any(p.suffix.lower() in MEDIA for p in path.rglob("*"))):
                return mine
    return []


def read(
    path: Any, image: str | None = None, audio: str | None = None, label: str | None = None, encoding: str | None = None,
    delimiter: Annotated[str, AfterValidator(_one_character)] | None = None, header: bool | None = None, columns: list[str] | None = None,
) -> Source:  # fmt: skip
    """Columns as they stand there. `image` or `audio` names the column of such, `label` the target where it is not
    called so; encoding, delimiter, header and column names of text are found where they are not given."""
    path = Path(path) if isinstance(path, str) else path
    splits: list[str] = []
    names: list[Names] = []
    read_from: list[Path] | None = None
    key = ""
    faults: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    encodings: dict[str, str] = {}
    if isinstance(path, Path):
        files = _files(path)
        if not files:
            raise DataError(f"no table in {path}", expected=f"files ending in {', '.join(_FORMATS)}")
        options = {"encoding": encoding, "delimiter": delimiter, "header": header, "columns": columns}
        for file in files:
            kind = _format(file)
            taken = options if kind is delimited else {} if kind is parquet else {"encoding": encoding}
            try:
                table, numbers, bad = kind.read(file, **taken)
            except pa.ArrowException as error:
                raise DataError(f"not readable: {error}", where=file) from None
            delimited.refuse_repeated(table.column_names, file)
            chats = tables and all(may_hold_chats(t.column_names) for t in (table, tables[0]))
            if tables and not chats and not set(table.column_names) & set(tables[0].column_names):
                raise DataError(
                    f"it has none of the columns of {files[0].name}",
                    where=file, expected=f"columns such as {', '.join(tables[0].column_names[:10])}",
                )  # fmt: skip
            found_encoding = (table.schema.metadata or {}).get(b"encoding", b"utf-8").decode()
            if found_encoding not in ("utf-8", "utf-8-sig"):
                encodings[file.name] = found_encoding
            tables.append(table)
            names.append(Names.numbered(file.name, numbers))
            splits += [split_named(file.name) if path.is_dir() else ""] * len(table)
            faults += bad
        left = [file for file in _tables(files[0].parent) if file not in files] if path.is_dir() else []
        told = f"not read: beside {files[0].name} it is a table of another kind"
        faults += [unusable(file.name, told) for file in left]
        folders = [file.parent for file in files]
        read_from = [path, *files, *_around(path)]
        listed = _class_lines(path, label or "label") if path.is_dir() else {}
    else:
        parts = _in_memory(path)
        if parts is None:
            raise DataError(f"a {type(path).__name__} is no table", expected="a data frame or Arrow table")
        for split, table in parts.items():
            delimited.refuse_repeated(table.column_names, split or "the table")
            tables.append(table)
            names.append(Names.numbered(split or "row", len(table)))
            splits += [SPLITS.get(split, "")] * len(table)
        key = fingerprint(*(part for split, table in parts.items() for part in (split, _bytes(table))))
        folders, listed = [Path()] * len(tables), {}
    found = _columns(tables, folders, names, {"image": image, "audio": audio}, label, listed)
    if read_from is not None:
        read_from += [f for c in found.values() if isinstance(c.values, _Media) for f in c.values.files()]
    return Source(
        found, Names.joined(names), splits if any(splits) else None, faults, key, read_from, encodings
    )


def _columns(
    tables: list[pa.Table], folders: list[Path], names: list[Names], media: dict[str, str | None],
    label: str | None,     listed: dict[str, list[str]],
) -> dict[str, Column]:  # fmt: skip
    first = next((name for part in names for name in part), "")
    classes = {n: c for t in tables for n, c in parquet.class_names(t.schema).items()}
    try:
        whole = pa.concat_tables(_named(tables), promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"the files {first.rpartition(':')[0]} … do not fit together: {error}",
            expected="the same columns in each",
        ) from None
    if not whole.column_names:
        raise DataError("a table without columns", where=first or None)
    for name, wanted in (*media.items(), ("label", label)):
        if wanted is not None and wanted not in whole.column_names:
            raise unknown("column", wanted, whole.column_names, where=f"data.reader.{name}")
    columns = {}
    chat = chat_column(whole)
    for name in whole.column_names:
        if chat and name in chat[0]:
            continue
        cells = whole[name]
        named = next((kind for kind, column in media.items() if column == name), None)
        found = _media(cells, [(f, len(t)) for f, t in zip(folders, tables, strict=True)], named)
        known = tuple(classes.get(name) or (listed.get(name) if name not in classes else None) or ())
        columns["label" if name == label else name] = (
            Column(*found) if found else Column("cells", cells, known)
        )
    if chat:
        name = (*chat[0], "messages")[0]
        columns.pop(name, None)
        return {name: chat[1], **columns}
    return columns


def _named(tables: list[pa.Table]) -> list[pa.Table]:
    """Two columns without names, of which one is text and the other the same few cells again and again, are
    `text` and `label`."""
    first = tables[0]
    if first.column_names != ["c1", "c2"] or not all(is_text(cells.type) for cells in first.columns):
        return tables
    some = [cells.slice(0, _LOOKED_AT).combine_chunks() for cells in first.columns]
    share = [pc.count_distinct(cells).as_py() / max(1, len(cells)) for cells in some]
    prose = [words(cells) >= _WORDS for cells in some]
    if len(first) < _LEAST or not prose[0] ^ prose[1]:
        return tables
    text = prose.index(True)
    if share[text] < _MANY or share[1 - text] > _AGAIN:
        return tables
    return [t.rename_columns(["text", "label"] if text == 0 else ["label", "text"]) for t in tables]


def _bytes(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _around(path: Path) -> list[Path]:
    """What else decides how the files of a folder are read: the folders below it, and `labels.txt`."""
    below = [Path(folder) for folder, _, _ in os.walk(path)] if path.is_dir() else []
    return [*below, path / "labels.txt"] if below else []


def _class_lines(path: Path, label: str) -> dict[str, list[str]]:
    """The names of the codes of the label, from `labels.txt` beside the files."""
    file = path / "labels.txt"
    if not file.is_file():
        return {}
    found = [line.strip() for line in delimited.decode(file.read_bytes(), file).split("\n") if line.strip()]
    if len(set(found)) < len(found):
        raise DataError("a class name stands there twice", where=file, expected="one line for each class")
    return {label: found}


def _in_memory(data: Any) -> dict[str, pa.Table] | None:
    """Arrow tables by split of a data frame, an Arrow table or a Hugging Face data set; else None."""
    if isinstance(data, pa.Table):
        return {"": data}
    kind = f"{type(data).__module__}.{type(data).__name__}"
    if kind.startswith("pandas.") and kind.endswith(".DataFrame"):
        try:
            return {"": pa.Table.from_pandas(data.rename(columns=str), preserve_index=False)}
        except (pa.ArrowException, ValueError) as error:
            told = "; ".join(map(str, error.args[::-1]))
            raise DataError(
                f"this data frame is no table: {told}", expected="values of one type in each column"
            ) from None
    if kind.startswith("polars.") and hasattr(data, "to_arrow"):
        return {"": data.to_arrow()}
    if kind.startswith("datasets.") and isinstance(data, dict):
        return {str(name): _of_hub(part) for name, part in data.items()}
    if kind.startswith("datasets.") and hasattr(data, "with_format"):
        return {"": _of_hub(data)}
    return None


def _of_hub(dataset: Any) -> pa.Table:
    """A Hugging Face data set's rows, in its own order, with the names of its classes."""
    if not hasattr(dataset, "num_rows"):
        raise DataError("a data set that streams", expected="load_dataset(…, streaming=False)")
    about = {"info": {"features": dataset.features.to_dict()}}
    return dataset.with_format("arrow")[:].replace_schema_metadata({"huggingface": json.dumps(about)})


class _Media(Sequence[Any]):
    """Images or sounds of one column, taken out of Arrow one at a time: bytes, or the paths of files."""

    def __init__(self, cells: pa.ChunkedArray, parts: list[tuple[Path, int]]):
        self._cells, self._folders = cells, [folder for folder, _ in parts]
        self._ends = list(itertools.accumulate(count for _, count in parts))

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, i: Any) -> Any:
        value = self._cells[i].as_py() or None
        return self._folders[bisect.bisect_right(self._ends, i)] / value if isinstance(value, str) else value

    def files(self) -> list[Path]:
        """Those that are named, each once."""
        return list(dict.fromkeys(f for f in self if f is not None)) if is_text(self._cells.type) else []


def _media(
    cells: pa.ChunkedArray, parts: list[tuple[Path, int]], named: str | None
) -> tuple[str, _Media] | None:
    """The kind and the images or sounds of a column, or None where it holds none. One that is not `named` to be
    of a kind is looked at."""
    kind = cells.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        inside = pc.struct_field(cells, "bytes")
        whole = inside.null_count < len(inside) or kind.get_field_index("path") < 0
        cells = inside if whole else pc.struct_field(cells, "path")
    if is_text(cells.type):
        found = named or _told_by_names(cells)
        cells = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    elif pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
        found = named or _told_by_opening(cells)
    else:
        found = None
    if named and not found:
        raise DataError(
            f"the {named} column is of type {kind}", expected="struct{bytes, path}, binary, or file names"
        )
    return (found, _Media(cells, parts)) if found else None


def _some(cells: pa.ChunkedArray) -> list[Any]:
    """Cells with a value, evenly spaced."""
    # one by one, because to take rows Arrow would first put all chunks together
    some = [cells[i].as_py() for i in range(0, len(cells), max(1, len(cells) // _TRIED))]
    return [value for value in some if value]


def _told_by_names(cells: pa.ChunkedArray) -> str | None:
    """Of which kind nearly all of some texts are, as they end like the files of it."""
    some = [str(value).strip().lower() for value in _some(cells)]
    for kind, medium in KINDS.items():
        if some and sum(name.endswith(tuple(medium.suffixes)) for name in some) > 0.9 * len(some):
            return kind
    return None


def _told_by_opening(cells: pa.ChunkedArray) -> str | None:
    """Of which kind the first of some bytes are that can be opened."""
    for value in _some(cells):
        for kind, medium in KINDS.items():
            with contextlib.suppress(*medium.unreadable):
                medium.peek(value)
                return kind
    return None
