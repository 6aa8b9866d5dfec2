"""What kind of column a column is: found from its cells, or as the recipe says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jichu.core.errors import DataError, shown

from .config import ColumnConfig
from .source import Column, distinct, in_order, number_column

MISSING = ("", "?", "-", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "<na>")
_NUMERIC = 0.95  # share of the cells that must be numbers (or dates) for a column to be of that kind
_MIXED = 0.5  # share of numbers from which a column of categories is worth a remark
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf(inity)?)$"
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$"
_DECIMAL_COMMA = r"^[+-]?(\d{1,3}(\.\d{3})+|\d+),\d*$"
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d-%b-%Y", "%d %b %Y",
          "%B %d, %Y")  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S")
_TOO_FINE = r"(:\d{2})(?:\.\d+)?(?:Z|\+00:?00)?$"  # fractions of a second, and that the time is UTC
_DIGITS = 15  # that a float holds: a whole number of more is a key or a code, and no quantity
_MOST_TAGS = 10_000
_LARGE, _LOOKED_AT = 2**26, 10_000  # bytes from which a column is looked at in part, and cells of it
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
_SAMPLE = 1000  # cells that a format of dates is tried on before all are
_WORDS, _DISTINCT = 3, 0.5  # a column of so many words a cell, most of them different, is text
_KEY = re.compile(r"(.*[_\s])?(id|uuid|index|key|rownum|row)|.*[a-z]I[dD]|unnamed.*|", re.IGNORECASE)


def typed(name: str, column: Column, wanted: ColumnConfig) -> Column:
    """The column with a kind and values of that kind. DataError where it cannot be of the `wanted` one."""
    if wanted.type == "ignore":
        return Column("ignored", column.values, note="as the recipe says")
    if column.kind != "cells":
        if wanted.type not in (None, column.kind):
            raise DataError(f"the column {name!r} is of kind {column.kind}", expected=f"not {wanted.type}")
        return column
    if wanted.type == "text":
        return texts(name, column.values, wanted)
    if wanted.type is None and is_text(column.values.type) and column.values.nbytes > _LARGE:
        # what may not fit into memory is looked at in part
        step = max(1, len(column.values) // _LOOKED_AT)
        cells = [column.values[i].as_py() for i in range(0, len(column.values), step)]
        some = pa.array(cells, column.values.type)
        if typed(name, Column("cells", some, column.classes), wanted).kind == "text":
            return texts(name, column.values, wanted)
    if wanted.type in ("image", "audio"):
        what = {"image": "images", "audio": "sounds"}[wanted.type]
        raise DataError(
            f"the column {name!r} is of type {column.values.type}",
            where=f"data.columns.{name}", expected=f"{what}; reader: {{name: table, {wanted.type}: {name}}} takes it for such",
        )  # fmt: skip
    cells = column.values.combine_chunks() if isinstance(column.values, pa.ChunkedArray) else column.values
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if _is_list(cells.type):
        passages = not column.classes and wanted.type is None and _holds_texts(cells)
        return texts(name, column.values, wanted) if passages else _tags(cells.to_pylist(), column.classes)
    if column.classes:  # codes whose names the source knows
        return _coded(name, cells, column.classes, wanted)
    if not is_text(cells.type):
        return _native(name, cells, wanted)
    if wanted.type in (None, "number") and not (wanted.missing or wanted.rename):
        plain = _all_numbers(name, cells, wanted.type is None)
        if plain is not None:
            return plain
    cells = _cleaned(cells, wanted)
    if wanted.type == "tags":
        return _tags([c and [t.strip() for t in c.split(wanted.separator)] for c in cells.to_pylist()])
    makers = {"number": _numbers, "timestamp": _timestamps, "category": _categories}
    if wanted.type is not None:
        made = makers[wanted.type](name, cells, 0.0)
        assert made is not None
        return made
    if cells.null_count == len(cells):
        return Column("ignored", cells, note="every cell is missing")
    for make in (_numbers, _timestamps, _text):
        made = make(name, cells, _NUMERIC)
        if made is not None:
            return texts(name, column.values, wanted) if made.kind == "text" else made
    return _categories(name, cells, _NUMERIC)


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type are strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _cleaned(cells: pa.Array, wanted: ColumnConfig) -> pa.Array:
    """Without blanks around, renamed as asked for, and null where the text means "missing"."""
    cells = pc.utf8_trim_whitespace(cells.cast(pa.string()))
    missing = pa.array([*MISSING, *(m.lower() for m in wanted.missing)])
    cells = pc.if_else(pc.is_in(pc.utf8_lower(cells), missing), pa.scalar(None, pa.string()), cells)
    for before, after in wanted.rename.items():
        cells = pc.if_else(pc.equal(cells, before), after, cells)
    return cells


def _native(name: str, cells: pa.Array, wanted: ColumnConfig) -> Column:
    """Of an Arrow type that says its kind by itself."""
    kind = cells.type
    if pa.types.is_null(kind) and wanted.type is None:
        return Column("ignored", cells, note="every cell is missing")
    if pa.types.is_null(kind) or pa.types.is_boolean(kind):
        cells = cells.cast(pa.string())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        whole = pa.types.is_integer(kind)
        if wanted.type == "number" or (wanted.type is None and not (whole and _beyond_floats(cells))):
            return _quantity(name, cells.cast(pa.float64(), safe=False), whole and wanted.type is None)
        cells = cells.cast(pa.string())
        cells = pc.replace_substring_regex(cells, r"\.0$", "")  # 3.0 of a float column with gaps is 3
    elif pa.types.is_temporal(kind) and not pa.types.is_duration(kind) and not pa.types.is_time(kind):
        seconds = cells.cast(pa.timestamp("s"), safe=False)
        return Column("timestamp", seconds.to_numpy(zero_copy_only=False).astype("datetime64[s]"))
    else:
        return Column("ignored", cells, note=f"cells of type {kind} are not used")
    return typed(name, Column("cells", cells), wanted if wanted.type else ColumnConfig(type="category"))


def _beyond_floats(cells: pa.Array) -> bool:
    """Whether there are whole numbers that a float would take for their neighbours."""
    ends = pc.min_max(cells).as_py()
    return max(abs(ends["min"] or 0), abs(ends["max"] or 0)) > 2**53


def _coded(name: str, cells: pa.Array, classes: Sequence[str], wanted: ColumnConfig) -> Column:
    """Of names of `classes`, or of their codes."""
    if is_text(cells.type):
        cells = _cleaned(cells, wanted)
        found = pc.index_in(cells, pa.array([*classes, *map(str, range(len(classes)))]))
        stray = pc.and_(cells.is_valid(), found.is_null())
        if row := pc.index(stray, True).as_py() + 1:
            raise DataError(
                f"{cells[row - 1].as_py()!r} in the column {name!r} is not one of the {len(classes)} classes",
                where=f"row {row - 1}", expected=f"one of {', '.join(classes[:20])}",
            )  # fmt: skip
        codes = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return Column("category", np.where(codes < 0, codes, codes % len(classes)), tuple(classes))
    try:
        cells = cells.cast(pa.int64())
    except pa.ArrowException:
        raise DataError(
            f"the column {name!r} is of type {cells.type}, which holds no codes of its {len(classes)} classes",
            expected="whole numbers or names",
        ) from None
    codes = cells.fill_null(-1).to_numpy(zero_copy_only=False)
    if len(codes) and codes.max() >= len(classes):
        row = int(codes.argmax())
        raise DataError(
            f"the code {codes[row]} stands in the column {name!r}, which has {len(classes)} classes",
            where=f"row {row}", expected=f"0 to {len(classes) - 1}",
        )  # fmt: skip
    return Column("category", np.maximum(codes, -1), tuple(classes))


def _all_numbers(name: str, cells: pa.Array, guess: bool) -> Column | None:
    """What `_numbers` would find, at once, where every cell is a number as programs write them or empty."""
    cells = cells.cast(pa.string())
    cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    if guess and cells.null_count == len(cells):
        return None
    try:
        values = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    numbers = values.drop_null().to_numpy(zero_copy_only=False)
    if not np.isfinite(numbers).all():  # in words, of which there are several
        return None
    whole = (
        guess
        and (numbers == np.floor(numbers)).all()
        and not _count(pc.match_substring_regex(cells, r"[.eE]"))
    )
    if whole and pc.max(pc.utf8_length(cells)).as_py() > _DIGITS:
        return None
    return _quantity(name, values, bool(whole))


def _numbers(name: str, cells: pa.Array, least: float) -> Column | None:
    """Plain numbers, with thousands separators (1,234.5) or in the continental way (1.234,5)."""
    present = len(cells) - cells.null_count
    plain = pc.match_substring_regex(cells, _PLAIN)
    found, clean = _count(plain), cells
    if found < present:
        grouped, comma = (pc.match_substring_regex(cells, p) for p in (_THOUSANDS, _DECIMAL_COMMA))
        continental = pc.and_(comma, pc.invert(grouped))
        if _count(continental):  # 3,5 can be nothing else, and then 1,234 is meant so too
            swapped = pc.replace_substring(pc.replace_substring(cells, ".", ""), ",", ".")
            clean = pc.if_else(comma, swapped, cells)
            plain = pc.or_(plain, comma)
        elif _count(grouped):
            clean = pc.if_else(grouped, pc.replace_substring(cells, ",", ""), cells)
            plain = pc.or_(plain, grouped)
        found = _count(plain)
    if least and (not found or found < least * present):
        return None
    if present and not found:
        raise DataError(f"no cell of the column {name!r} is a number", expected="another type than number")
    whole = least > 0 and not _count(pc.match_substring_regex(clean, r"[.eE]"))
    if whole and pc.max(pc.utf8_length(clean)).as_py() > _DIGITS:
        return None
    values = pc.if_else(plain, clean, pa.scalar(None, pa.string())).cast(pa.float64())
    return _quantity(name, values, whole, _odd(cells, plain, "numbers"))


def _quantity(name: str, values: pa.Array, whole: bool, note: str = "") -> Column:
    """Numbers; not used where they are whole, different in every row, and called like a key."""
    column = number_column(values.to_numpy(zero_copy_only=False), note)
    if whole and _KEY.fullmatch(name) and len(values) > 20 and distinct(column.values) == len(values):
        return Column("ignored", column.values, note="a key: another whole number in every row")
    return column


def _timestamps(name: str, cells: pa.Array, least: float) -> Column | None:
    """Dates, with or without a time, in one of the usual formats."""
    cells = pc.replace_substring_regex(cells, _TOO_FINE, r"\1")
    present = cells.drop_null()
    if least and not _count(pc.match_substring_regex(present.slice(0, 50), r"\d{4}[-/]|[-/. ]\d{4}")):
        return None
    best: tuple[int, str] = (0, "")
    for day in _DATES:
        for time in _TIMES:
            parsed = pc.strptime(present.slice(0, _SAMPLE), format=day + time, unit="s", error_is_null=True)
            best = max(best, (len(parsed) - parsed.null_count, day + time), key=lambda pair: pair[0])
    parsed = pc.strptime(cells, format=best[1] or "%Y-%m-%d", unit="s", error_is_null=True)
    found = len(parsed) - parsed.null_count
    if least and (not found or found < least * len(present)):
        return None
    if len(present) and not found:
        raise DataError(
            f"no cell of the column {name!r} is a date",
            expected="such as 2030-12-31, 31.12.2030, 12/31/2030 or 2030-12-31 23:59:59",
        )
    note = _odd(cells, parsed.is_valid(), "dates")
    if best[1].startswith("%m/%d"):
        note = "read as month/day/year" + (f"; {note}" if note else "")
    return Column("timestamp", parsed.to_numpy(zero_copy_only=False).astype("datetime64[s]"), note=note)


def _text(name: str, cells: pa.Array, least: float) -> Column | None:
    """Free text, or keys that are different in every row; None for what is better taken as categories."""
    present = cells.drop_null()
    distinct = pc.count_distinct(present).as_py()
    if least and (distinct < _DISTINCT * len(present) or len(present) < 20):
        return None
    if least and words(present) < _WORDS:
        if distinct == len(present):
            return Column("ignored", cells, note="a key: another value in every row")
        return None
    return Column("text", cells)


def words(cells: pa.Array) -> float:
    """How many words a cell has on average; two Chinese, Japanese or Thai characters count as one."""
    spaced = pc.count_substring_regex(cells, rf"[^\s{_UNSPACED}]+")
    unspaced = pc.count_substring_regex(cells, rf"[{_UNSPACED}]")
    return (pc.mean(spaced).as_py() or 0) + (pc.mean(unspaced).as_py() or 0) / 2


def _holds_texts(cells: pa.Array) -> bool:
    """Whether lists are the passages of a text, and no tags."""
    inside = cells.flatten()
    if not is_text(inside.type):
        return False
    inside = inside.slice(0, _LOOKED_AT).drop_null()
    return len(inside) > 20 and (
        pc.count_distinct(inside).as_py() > _DISTINCT * len(inside) and words(inside) >= _WORDS
    )


def texts(name: str, cells: pa.ChunkedArray | pa.Array, wanted: ColumnConfig) -> Column:
    """Texts as they stand there, nothing stripped; passages in a list become lines. DataError where the cells
    hold none."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if _is_list(cells.type) and is_text(cells.type.value_type):
        parts = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
        joined = [_joined(part) for part in parts]
        cells = pa.chunked_array(joined, pa.large_string())
    if not is_text(cells.type):
        if (
            pa.types.is_nested(cells.type)
            or pa.types.is_binary(cells.type)
            or pa.types.is_large_binary(cells.type)
        ):
            raise DataError(
                f"the column {name!r} is of type {cells.type}", expected="texts, or lists of them"
            )
        cells = cells.cast(pa.string())
    for cell in wanted.missing:
        cells = pc.if_else(pc.equal(cells, cell), pa.scalar(None, cells.type), cells)
    for before, after in wanted.rename.items():
        cells = pc.if_else(pc.equal(cells, before), pa.scalar(after, cells.type), cells)
    return Column("text", cells)


def _joined(lists: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_list(lists.type):
        lists = lists.cast(pa.list_(lists.type.value_type))
    inside = pc.if_else(lists.values.is_valid(), lists.values.cast(pa.large_string()), "")
    return pc.binary_join(
        type(lists).from_arrays(lists.offsets, inside, mask=lists.is_null()),
        pa.scalar("\n", pa.large_string()),
    )


def _categories(name: str, cells: pa.Array, least: float) -> Column:
    encoded = cells.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if {n.lower() for n in names} <= {"true", "false"}:  # as Python, JSON and others write them
        names = [n.lower() for n in names]
    classes = in_order(names)
    place = {c: i for i, c in enumerate(classes)}
    to = np.array([place[n] for n in names] + [-1])
    codes = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    plain = pc.match_substring_regex(encoded.dictionary, _PLAIN).to_numpy(zero_copy_only=False)
    often = np.bincount(codes, minlength=len(to))[:-1]
    numbers = often[plain].sum() / max(1, often.sum())
    mixed = least and _MIXED < numbers < 1
    note = f"mixed: {numbers:.0%} of the cells are numbers" if mixed else ""
    return Column("category", to[codes], tuple(classes), note)


def _tags(rows: list[Any], names: Sequence[str] = ()) -> Column:
    """Of a list of tags, or of their codes in `names`, in each row."""
    if names:
        meant: dict[Any, str] = dict(enumerate(names)) | {name: name for name in names}
        stray = next(
            (tag for row in rows if row for tag in row if isinstance(tag, (list, dict)) or tag not in meant),
            None,
        )
        if stray is not None:
            raise DataError(
                f"{shown(stray)} is not one of the {len(names)} tags",
                expected=f"one of {', '.join(names[:20])}",
            )
        rows = [row and [meant[tag] for tag in row if tag is not None] for row in rows]
    rows = [row if row is None else {str(tag) for tag in row if tag not in (None, "")} for row in rows]
    classes = names or in_order({tag for row in rows if row for tag in row})
    if len(classes) > _MOST_TAGS:
        return Column("ignored", rows, note=f"lists of {len(classes)} different values")
    place = {c: i for i, c in enumerate(classes)}
    values = np.zeros((len(rows), len(classes)), np.float32)
    for i, row in enumerate(rows):
        if row is None:
            values[i] = np.nan
        else:
            values[i, [place[tag] for tag in row]] = 1
    return Column("tags", values, tuple(classes))


def _count(mask: pa.Array) -> int:
    return pc.sum(mask).as_py() or 0


def _odd(cells: pa.Array, fits: pa.Array, kind: str) -> str:
    """What is said of the cells that are not of the column's kind."""
    odd = pc.and_(cells.is_valid(), pc.invert(fits.fill_null(False)))
    count = _count(odd)
    if not count:
        return ""
    row = pc.index(odd, True).as_py()
    return f"{count} cells are no {kind}, taken as missing; the first: row {row}, {cells[row].as_py()!r}"
