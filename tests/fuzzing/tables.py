"""Tables and texts: delimited, JSON lines, Parquet, prose."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from jichu.core.config import check
from jichu.data.config import CleanConfig, DataConfig
from jichu.data.inspection import inspect as look_into
from jichu.data.load import load

from . import grammar
from .loading import loaded, packed
from .mutations import NUMBERS, spoil_bytes, spoil_tree
from .pictures import picture
from .recipes import yaml_of

CELLS = (
    "", "?", "NA", "nan", "1", "2", "-3", "+4", "+.5", "1.", ".5", "1e5", "1E-5", "1e999", "inf", "-Infinity", "1,234", "1,234.5",
    "3,5", "1.234,5", "0x10", "007", "12345678901234567890", "1" * 400, "9" * 5000, "true", "False", "yes", "no", "a", "b", "A",
    "a|b", "|", "||c", "2020-01-31", "31.12.2020", "12/31/2020", "2020-01-01T10:00:00Z", "2020-02-30", "9999-12-31",
    "0000-00-00", "32-Jan-2020", "January 5, 2020", "the quick brown fox", "a longer text, with a comma", "x\ny", 'say "x"',
    "日本語", "💥", "\u200b", "\ufeff", " padded ", "\t", "photo.png", "x/photo.jpg", "train", "test", "-1", "0", "²", "٣",
)  # fmt: skip


_COLUMNS = (
    "label",
    "target",
    "y",
    "x0",
    "x1",
    "id",
    "split",
    "image",
    "weight",
    "",
    " ",
    "a b",
    "Label",
    "日",
    "1",
    "row",
    "label_2",
)


_ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "cp1252",
    "gb18030",
    "shift_jis",
    "big5",
    "koi8-r",
    "utf-7",
)


def drawn_columns(rng):
    """Some columns of cells, each of few kinds of values."""
    rows = rng.choice((1, 2, 5, 25, 60))
    names = rng.sample(_COLUMNS, rng.randint(1, 5)) if rng.random() < 0.9 else rng.choices(_COLUMNS, k=3)
    found = []
    for name in names:
        values = rng.sample(CELLS, rng.choice((1, 2, 3, 10)))
        kind = rng.random()
        if kind < 0.25:
            values = [str(rng.randrange(10**6)) for _ in range(rows)]
        elif kind < 0.4:
            values = [f"{rng.gauss(0, 1):.3f}" for _ in range(rows)]
        found.append((name, [rng.choice(values) for _ in range(rows)]))
    return found


def written_table(rng, lines, name, case):
    encoding = rng.choice(_ENCODINGS) if rng.random() < 0.4 else "utf-8"
    content = rng.choice(("\n", "\r\n", "\n", "\r")).join(lines).encode(encoding, "replace")
    if rng.random() < 0.5:
        content = spoil_bytes(rng, content)
    return case.file(name, packed(rng, content))


def delimited(case):
    rng = case.rng
    delimiter = rng.choice(",,;\t| :^")
    found = drawn_columns(rng)

    def cell(text):
        quoted = rng.random() < 0.1 or (any(c in text for c in (delimiter, "\n", '"')) and rng.random() < 0.9)
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [delimiter.join(map(cell, row)) for row in zip(*(values for _, values in found))]
    if rng.random() < 0.85:
        lines.insert(0, delimiter.join(cell(name) for name, _ in found))
    if rng.random() < 0.2:
        lines[rng.randrange(len(lines))] += rng.choice(
            (delimiter, '"', delimiter * 20, "x" * 200_000, "\x00")
        )
    suffix = rng.choice((".csv", ".csv", ".tsv", ".csv.gz", ".tab"))
    path = written_table(rng, lines, f"data/{rng.choice(('a', 'train', 'labels'))}{suffix}", case)
    loaded(case, path if rng.random() < 0.8 else path.parent)


def jsonl(case):
    rng = case.rng
    found = drawn_columns(rng)
    rows = [dict(zip([n for n, _ in found], row)) for row in zip(*(values for _, values in found))]
    rows = [spoil_tree(rng, row) if rng.random() < 0.3 else row for row in rows]
    lines = [json.dumps(row, ensure_ascii=rng.random() < 0.7, default=str, skipkeys=True) for row in rows]
    if rng.random() < 0.2:
        lines[rng.randrange(len(lines))] = rng.choice(
            (
                "",
                "null",
                "[" * 100_000,
                '{"a":' * 3000,
                "9" * 6000,
                '{"a": 1, "a": 2}',
                '{"a": NaN}',
                '{"\\ud800": 1}',
                "{}",
            )
        )
    lines = [line.encode("utf-8", "replace").decode() for line in lines]
    loaded(case, written_table(rng, lines, "data/a.jsonl", case))


_PASSAGES = (
    "plain words and more of them", "今天天气很好，我们去公园。", "\u2028\x85 lines? \u200f שלום", "👩‍👩‍👧 e\u0301", "\x00\x01\x02", "# ... #",
    "", " \t", "Das ist ein Satz in der Sprache", "- - [1, {", "a" * 9000, '{"messages": [{"role": "user", "content": null}]}',
)  # fmt: skip


def _turns(rng):
    """A conversation in some form, or nearly."""
    a, b = rng.choices(_PASSAGES, k=2)
    return spoil_tree(rng, rng.choice((
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": a}]}, {"role": "gpt", "content": [a, b]}]},
        {"conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": b}], "system": a},
        {"instruction": a, "input": b, "output": a, "history": [[a, b]]},
    )))  # fmt: skip


def text(case):
    """Plain texts, source code, conversations; in one file or several, cut and cleaned in some way."""
    rng = case.rng
    lines = [
        rng.choice(_PASSAGES) * rng.randrange(3) + str(rng.randrange(9)) for _ in range(rng.randrange(60))
    ]
    kind = rng.choice((".txt", ".txt.gz", ".md", ".py", ".json", ".jsonl", ".yml"))
    if kind == ".yml":
        turns = [rng.choices(lines or [""], k=rng.randrange(4)) for _ in range(9)]
        lines = [yaml_of(rng, {"conversations": spoil_tree(rng, turns) if rng.random() < 0.4 else turns})]
    elif kind.startswith(".json"):
        rows = [_turns(rng) if rng.random() < 0.3 else {"text": line, "label": line[:1]} for line in lines]
        lines = [json.dumps(row, default=str, skipkeys=True, ensure_ascii=rng.random() < 0.5) for row in rows]
        lines = ["[" + ",".join(lines) + "]"] if kind == ".json" else lines
    lines = [line.encode("utf-8", "replace").decode() for line in lines or [""]]
    names = rng.sample(("train", "test", "a", "en/b", "c.d"), rng.choice((1, 1, 2, 3)))
    paths = [written_table(rng, lines, f"data/{name}{kind}", case) for name in names]
    reader = rng.choice((
        None, None, "text", {"name": "text", "documents": rng.choice(("file", "line", "paragraph", 100))},
        {"name": "text", "line": rng.choice(("{label} {text}", "{a}:{text}", "{text}{b}"))},
        {"name": "text", "labels": True}, {"name": "text", "pair": ["txt", "md"]}, "chats", "table",
    ))  # fmt: skip
    clean = grammar.sample(rng, CleanConfig) if rng.random() < 0.5 else {}
    path = paths[0] if len(paths) == 1 else case.folder / "data"
    given = {
        "path": str(path),
        "reader": reader,
        "clean": clean,
        "text": rng.choice((None, None, "text", ["text", "label"])),
    }
    found = load(str(path), check(DataConfig, given))
    look_into(found)
    for held in found.texts.values():
        held.values.numpy().tobytes().decode()  # what is kept is UTF-8


def drawn_arrow(rng, texts):
    """Cells as a column of some type of Arrow's."""
    rows = len(texts)
    numbers = [rng.choice((None, rng.randrange(-9, 9), rng.choice(NUMBERS[:11]))) for _ in range(rows)]
    few = [n if n is None else n % 3 for n in numbers]
    kind = rng.choice(
        [
            lambda: pa.array(texts), lambda: pa.array(numbers, pa.int64()), lambda: pa.array(few, pa.uint8()),
            lambda: pa.array(numbers, pa.float64()), lambda: pa.array(few, pa.float16()), lambda: pa.array(texts, pa.large_string()),
            lambda: pa.array([n if n is None else n > 0 for n in numbers]), lambda: pa.array(numbers, pa.timestamp("us", "UTC")),
            lambda: pa.array(few, pa.date32()), lambda: pa.array(numbers, pa.timestamp("s")), lambda: pa.array(few, pa.time32("s")),
            lambda: pa.array(few, pa.duration("s")), lambda: pa.array(texts).dictionary_encode(), lambda: pa.nulls(rows),
            lambda: pa.array([n if n is None else [n % 5] * (n % 3) for n in numbers]), lambda: pa.array([{"a": n} for n in numbers]),
            lambda: pa.array([t.encode() for t in texts]), lambda: pa.array([{"bytes": picture(rng)[0], "path": None} for _ in texts]),
            lambda: pa.array([{"bytes": None, "path": t} for t in texts], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            lambda: pa.array(few).cast(pa.decimal128(30, 3)), lambda: pa.array([[0.5, 1.5]] * rows, pa.list_(pa.float32(), 2)),
            lambda: pa.array([n if n is None else [(str(n), n)] for n in few], pa.map_(pa.string(), pa.int64())),
        ]
    )  # fmt: skip
    return kind()


def parquet(case):
    rng = case.rng
    found = dict(drawn_columns(rng))
    table = pa.table({name: drawn_arrow(rng, values) for name, values in found.items()})
    if rng.random() < 0.3:
        names = rng.choice(
            (["a", "b", "c"], ["a"], [], "abc", [1, 2, 3], ["a", "a"], None, [None, "b"], {"a": 1})
        )
        features = {n: {"names": names, "_type": "ClassLabel"} for n in found}
        about = (
            spoil_tree(rng, {"info": {"features": features}})
            if rng.random() < 0.5
            else {"info": {"features": features}}
        )
        table = table.replace_schema_metadata({"huggingface": json.dumps(about, default=str, skipkeys=True)})
    path = case.folder / "data" / rng.choice(("a.parquet", "train-0.parquet"))
    path.parent.mkdir()
    pq.write_table(table, path, compression=rng.choice(("none", "snappy", "zstd", "gzip", "lz4")),
                   use_dictionary=rng.random() < 0.5, version=rng.choice(("1.0", "2.6")), data_page_version=rng.choice(("1.0", "2.0")))  # fmt: skip
    if rng.random() < 0.6:
        path.write_bytes(spoil_bytes(rng, path.read_bytes(), 4))
    loaded(case, path if rng.random() < 0.8 else path.parent)
