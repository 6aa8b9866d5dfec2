"""Tables: how they are read, what their columns are found to be, and that a bad one ends in words."""

import csv
import datetime
import gzip
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import jichu
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.data.config import ColumnConfig
from jichu.data.readers import read
from jichu.data.schema import MOST_CATEGORIES, TableSchema
from jichu.data.source import Column
from jichu.data.types import typed

ROWS = [(round(math.sin(i), 3), "xyz"[i % 3], ("no", "yes")[i % 2]) for i in range(40)]
PLAIN = "a,b,label\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS)


def column(cells, **wanted):
    return typed("c", Column("cells", pa.array(cells)), ColumnConfig(**wanted))


def kinds(data):
    return {c["name"]: c["type"] for c in data.columns}


def load(tmp_path, content, name="t.csv", **config):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return jichu.load(path, **config)


# --- one table in many forms


def in_form(form, path):
    """The rows above written by Python's own modules."""
    records = [dict(zip(("a", "b", "label"), row, strict=True)) for row in ROWS]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["a", "b", "label"], delimiter={"tsv": "\t", "scsv": ";"}.get(form, ","))
    writer.writeheader()
    writer.writerows(records)
    lines = "".join(json.dumps(r) + "\n" for r in records)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path / "t.parquet")
        return path / "t.parquet"
    name, content = {
        "csv": ("t.csv", text.getvalue().encode()), "tsv": ("t.tsv", text.getvalue().encode()),
        "scsv": ("t.csv", text.getvalue().encode()), "csv.gz": ("t.csv.gz", gzip.compress(text.getvalue().encode())),
        "jsonl": ("t.jsonl", lines.encode()), "jsonl.gz": ("t.jsonl.gz", gzip.compress(lines.encode())),
    }[form]  # fmt: skip
    (path / name).write_bytes(content)
    return path / name


@pytest.mark.parametrize("form", ["csv", "tsv", "scsv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_form_gives_the_same_tensors(tmp_path, form):
    data = jichu.load(in_form(form, tmp_path))
    assert kinds(data) == {"a": "number", "b": "category", "label": "category"}
    assert data.classes == ["no", "yes"] and len(data) == 40
    assert np.allclose(data.tensors["numbers"][:, 0], [a for a, _, _ in ROWS])
    assert data.tensors["categories"][:, 0].tolist() == ["xyz".index(b) + 1 for _, b, _ in ROWS]
    assert data.tensors["label"].tolist() == [i % 2 for i in range(40)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_whose_files_tell_their_split(tmp_path, suffix):
    table = pa.Table.from_pylist([dict(zip("abl", row, strict=True)) for row in ROWS])
    for name, part in (("train-0", table[:20]), ("my-valid", table[20:25]), ("t.test", table[25:])):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "parquet":
            pq.write_table(part, path)
        elif suffix == "csv":
            pa.csv.write_csv(part, path)
        else:
            path.write_text("".join(json.dumps(r) + "\n" for r in part.to_pylist()))
    data = jichu.load(tmp_path, target="l")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 20, "validation": 5, "test": 15}


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252", "latin-1", "gb18030", "utf-16-be"],
)
def test_encodings(tmp_path, encoding):
    word = "基础模型" if encoding == "gb18030" else "Müller und Söhne"
    text = "größe,firma,label\n" if encoding != "gb18030" else "大小,公司名称,label\n"
    text += "".join(f"{i}.5,{word} {i % 3},{'ab'[i % 2]}\n" for i in range(60))
    raw = text.encode(encoding)
    if encoding in ("utf-16-le", "utf-16-be"):  # without a mark it must be said
        with pytest.raises(DataError, match="no mark of its encoding"):
            load(tmp_path, raw)
        data = load(tmp_path, raw, reader={"name": "table", "encoding": encoding})
    else:
        data = load(tmp_path, raw)
    assert [c["name"] for c in data.columns] == text.split("\n")[0].split(",")
    assert data.table.categories[data.columns[1]["name"]] == tuple(f"{word} {i}" for i in range(3))


def test_quotes_newlines_and_no_header(tmp_path):
    quoted = load(
        tmp_path, 'a,note,label\n1,"x, ""y""\nz",u\n2,"x, ""y""\nz",v\n3,w,u\n', split={"test": 0.0}
    )
    assert quoted.table.categories["note"] == ("w", 'x, "y"\nz') and len(quoted) == 3
    bare = load(tmp_path, PLAIN.partition("\n")[2], "bare.csv", target="c3")
    assert kinds(bare) == {"c1": "number", "c2": "category", "c3": "category"} and len(bare) == 40
    named = load(
        tmp_path, PLAIN.partition("\n")[2], "named.csv", reader={"name": "table", "columns": ["p", "q", "y"]}
    )
    assert set(kinds(named)) == {"p", "q", "y"} and named.classes == ["no", "yes"]
    headers = load(
        tmp_path, "p,q\nu,v\nv,u\nu,u\nv,v\n", "words.csv", reader={"name": "table", "header": False}
    )
    assert len(headers) == 5


# --- what a column is found to be


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "2.5", "-3e2", "?"], "number", [1, 2.5, -300, np.nan]),
        (["1,234.5", "12", "1,000,000"], "number", [1234.5, 12, 1e6]),
        (["1.234,5", "0,5", "12"], "number", [1234.5, 0.5, 12]),
        ([" 7 ", "NaN", "inf", "1e300"], "number", [7, np.nan, np.nan, np.nan]),
        ([True, None, False], "category", [1, -1, 0]),
        (["True", "", "False"], "category", [1, -1, 0]),
        (["b", "a", None, "b"], "category", [1, 0, -1, 1]),
        (["10", "9", "x"], "category", None),
        ([["p", "q"], [], None, ["q"]], "tags", [[1, 1], [0, 0], [np.nan, np.nan], [0, 1]]),
        ([None, None], "ignored", None),
        (["", "NA", "n/a"], "ignored", None),
        ([2**60, 2**60 + 1, 2**60], "category", [0, 1, 0]),
        ([str(2**60), str(2**60 + 1), str(2**60)], "category", [0, 1, 0]),
        ([datetime.date(2020, 1, 2), None], "timestamp", None),
        ([datetime.timedelta(1)], "ignored", None),
        ([{"x": 1}], "ignored", None),
    ],
)
def test_kinds(cells, kind, values):
    found = column(cells)
    assert found.kind == kind
    if values is not None:
        assert np.array_equal(found.values, np.array(values, float), equal_nan=True)


def test_floats_of_many_digits_are_numbers_and_not_keys():
    values = np.random.default_rng(0).normal(size=50)
    assert np.array_equal(column([repr(float(v)) for v in values]).values, values)
    assert column([f"{10**17 + i}" for i in range(50)]).note.startswith("a key")


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20))
def test_numbers_are_read_as_python_reads_them(values):
    assert np.array_equal(column([repr(v) for v in values], type="number").values, values)


FORMS = ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%d %b %Y", "%B %d, %Y",
         "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f", "%d/%m/%Y %H:%M"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_dates_and_their_parts(form):
    times = [datetime.datetime(1965, 1, 31, 5, 7) + datetime.timedelta(hours=7001 * i) for i in range(30)]
    found = column([t.strftime(form) for t in times] + [None])
    assert found.kind == "timestamp"
    read = [datetime.datetime.strptime(t.strftime(form), form) for t in times]
    assert np.array_equal(found.values[:-1], np.array(read, "datetime64[s]"))
    parts = TableSchema(timestamps=("t",)).encode({"t": found})["numbers"]
    epoch = datetime.datetime(1970, 1, 1)
    wanted = [[(t - epoch).total_seconds() / 86400, t.month, t.weekday(), t.hour] for t in read]
    assert np.allclose(parts[:-1], wanted, rtol=1e-6) and np.isnan(parts[-1]).all()


def test_versions_and_phone_numbers_are_no_dates():
    for cells in (["1.2.3", "1.10.4"] * 20, ["030-1234", "040-9876"] * 20, ["10:30", "11:45"] * 20):
        assert column(cells).kind == "category"


def test_text_keys_and_constants(tmp_path):
    lines = "note,key,id,same,n,label\n" + "".join(
        f"the cat number {i} sat there,k{i},{i},1,{i % 7},{'ab'[i % 2]}\n" for i in range(40)
    )
    data = load(tmp_path, lines)
    assert kinds(data) == {"note": "text", "key": "ignored", "id": "ignored", "same": "number", "n": "number",
                           "label": "category"}  # fmt: skip
    assert data.table.numbers == ("n",)
    assert "id" in load(tmp_path, lines, columns={"id": "number"}).table.numbers  # as the recipe says


def test_overrides(tmp_path):
    lines = "zip,n,x,tags,y\n" + "".join(
        f"0{i % 3},{-9 if i == 4 else i}.5,{i},p; q{i % 2},{('male', 'M', 'f')[i % 3]}\n" for i in range(30)
    )
    said = {"zip": "category", "n": {"type": "number", "missing": ["-9.5"]}, "x": "ignore",
            "tags": {"type": "tags", "separator": ";"}, "y": {"rename": {"M": "male"}}}  # fmt: skip
    data = load(tmp_path, lines, columns=said, target=["y", "tags"])
    assert data.table == TableSchema(("n",), (), {"zip": ("00", "01", "02")})
    assert data.tensors["numbers"][4, 0].isnan() and data.classes == ["f", "male"]
    assert data.targets["label_2"].task == "multilabel" and data.targets["label_2"].classes == (
        "p", "q0", "q1",
    )  # fmt: skip
    assert data.tensors["label_2"][1].tolist() == [1, 0, 1]


def test_frequent_categories_and_unseen_ones():
    cells = [f"k{i}" for i in range(3000)] + [f"k{i}" for i in range(0, 3000, 3)] * 2
    known = column(cells)
    data = jichu.load(pa.table({"c": cells, "z": list(np.arange(5000.0) % 7)}))
    assert len(data.table.categories["c"]) == MOST_CATEGORIES == 1000
    assert set(data.table.categories["c"]) == {f"k{i}" for i in range(0, 3000, 3)}
    schema = TableSchema(categories={"c": ("k2", "k1")})
    assert schema.encode({"c": known})["categories"][:4, 0].tolist() == [0, 2, 1, 0]
    with pytest.raises(DataError, match="column 'c' is missing"):
        schema.encode({})


def test_a_hundred_thousand_categories_and_classes():
    n = 100_000
    cells = [f"k{i // 4}" for i in range(n)]
    data = jichu.load(pa.table({"c": cells, "z": np.arange(n) * 0.5, "label": cells}))
    assert len(data.classes) == 25_000
    counts = np.bincount(data.labels("test"), minlength=25_000)
    assert (counts == 1).all()  # a fifth of four, rounded


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        ([0, 1, 2] * 5, "classification"),
        (list(range(40)), "regression"),
        ([0.5, 1.0, 2.0] * 5, "regression"),
        (["u", "v"] * 5, "classification"),
        ([["u"], ["u", "v"]] * 5, "multilabel"),
        ([True, False] * 5, "classification"),
        ([-1, 1, None] * 5, "classification"),
    ],
)
def test_targets(cells, task):
    data = jichu.load(pa.table({"x": np.arange(len(cells)) * 0.5, "y": cells}))
    assert data.targets["label"].task == task
    if task == "classification":
        truth = [None if code < 0 else data.classes[code] for code in data.tensors["label"]]
        assert truth == [None if c is None else str(c).lower() for c in cells]


# --- tables in memory, and tables of images


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({
        "a": np.arange(12.0), "c": pandas.Categorical(list("xyz") * 4), "t": pandas.date_range("2020-01-01", periods=12),
        "b": [True, False] * 6, 7: [1, None, 3] * 4, "label": ["u", "v"] * 6,
    })  # fmt: skip
    data = jichu.load(frame)
    assert data.table.numbers == ("a", "7") and data.table.timestamps == ("t",)
    assert set(data.table.categories) == {"c", "b"} and data.classes == ["u", "v"]
    with pytest.raises(DataError, match="column o"):
        jichu.load(pandas.DataFrame({"o": [1, "a", None]}))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_every_arrow_type(kind):
    data = jichu.load(pa.table({"c": pa.array(["x", "y"] * 5).cast(kind), "label": ["u", "v"] * 5}))
    assert data.table.categories == {"c": ("x", "y")}


def test_arrow_tables_with_one_name_twice():
    with pytest.raises(DataError, match="'a' stands there 2 times"):
        jichu.load(pa.table([[1.5, 2], [3, 4]], names=["a", "a"]))


def test_hugging_face_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 9, 9, 3), dtype=np.uint8)
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"]),
        "also": datasets.List(datasets.ClassLabel(names=["p", "q"])),
    })  # fmt: skip
    columns = {"image": list(pixels), "label": [i % 2 for i in range(20)], "also": [[0], [0, 1]] * 10}
    whole = datasets.Dataset.from_dict(columns, features=features)
    data = jichu.load(whole, target=["label", "also"])
    assert data.classes == ["no", "yes"] and data.targets["label_2"].classes == ("p", "q")
    assert np.array_equal(data.tensors["image"].numpy(), pixels.transpose(0, 3, 1, 2))
    backwards = jichu.load(whole.select(range(19, -1, -1)))  # its own order, not that of what it was cut from
    assert np.array_equal(backwards.tensors["image"].numpy(), pixels[::-1].transpose(0, 3, 1, 2))
    parts = datasets.DatasetDict(
        {"train": whole.select(range(15)), "validation": whole.select(range(15, 20))}
    )
    assert {k: len(v) for k, v in jichu.load(parts).splits.items()}["validation"] == 5
    pq.write_table(whole.with_format("arrow")[:], tmp_path / "t.parquet")
    with pytest.raises(DataError, match="streams"):
        jichu.load(whole.to_iterable_dataset())


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_that_names_image_files(tmp_path, suffix):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        name = f"pictures/{i}.png"
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(tmp_path / name)
        rows.append({"file_name": name, "label": "ab"[i % 2], "split": ("train", "test")[i % 4 == 0]})
    rows.append({"file_name": "pictures/none.png", "label": "a", "split": "train"})
    rows.append({"file_name": None, "label": "b", "split": "train"})
    path = tmp_path / f"metadata.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    data = jichu.load(tmp_path)
    assert data.tensors["image"].shape == (8, 1, 9, 9) and data.classes == ["a", "b"]
    assert {k: v.tolist() for k, v in data.splits.items()} == {"train": [1, 2, 3, 5, 6, 7], "test": [0, 4]}
    assert len(data.quarantine) == 2 and "there is no file" in data.quarantine[0]["reason"]
    assert "no image" in data.quarantine[1]["reason"]


def test_class_names_beside_the_files(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    coded = load(tmp_path, "a,label\n" + "".join(f"{i}.5,{i % 2}\n" for i in range(20)))
    data = jichu.load(tmp_path)
    assert coded.classes == ["0", "1"] and data.classes == ["cat", "dog"]
    assert data.tensors["label"].tolist() == [i % 2 for i in range(20)]
    load(tmp_path, "a,label\n1.5,cat\n2.5,cow\n")
    with pytest.raises(DataError, match="'cow' in the column 'label' is not one of the 2 classes"):
        jichu.load(tmp_path)


# --- bad tables


def many(cells):
    return "a,b,label\n" + "".join(f"{i}.5,{cell},{i % 2}\n" for i, cell in enumerate(cells))


BAD = {  # {name: (file, content, settings, exit code of inspect, what is said)}
    "empty": ("t.csv", b"", [], 3, "empty"),
    "blank": ("t.csv", b"\n \n", [], 3, "empty"),
    "header alone": ("t.csv", "a,b,label\n", [], 3, "no rows"),
    "binary": ("t.csv", bytes(range(128, 256)) * 9 + b"\0" * 20, [], 3, "no text"),
    "no gzip": ("t.csv.gz", b"\x1f\x8b\x08" + b"z" * 60, [], 3, "decompress"),
    "wrong encoding": ("t.csv", PLAIN.replace("x", "é").encode("latin-1"), ["reader={name: table, encoding: utf-8}"], 3, "not readable as utf-8"),
    "no encoding": ("t.csv", PLAIN, ["reader={name: table, encoding: klingon}"], 3, "klingon"),
    "wide delimiter": ("t.csv", PLAIN, ["reader={name: table, delimiter: ', '}"], 2, "one character"),
    "delimiter of another alphabet": ("t.csv", PLAIN, ["reader={name: table, delimiter: '§'}"], 2, "one character"),
    "one name twice": ("t.csv", PLAIN.replace("a,b", "a,a", 1), [], 3, "'a' stands there 2 times"),
    "names that are empty": ("t.csv", PLAIN.replace("a,b", ",", 1), [], 3, "'' stands there 2 times"),
    "ragged": ("t.csv", "a,b\n1,2\n1\n2\n3\n4\n", [], 3, "do not fit the first line"),
    "all missing": ("t.csv", "a,b,label\n" + ",,\n" * 9, [], 3, "no column can be used"),
    "an open quote": ("t.csv", PLAIN.replace("x", '"x', 1), [], 3, "open quote takes"),
    "weight below zero": ("t.csv", many([1, -1, 2]), ["weight=b"], 3, "the weight -1.0"),
    "weight missing": ("t.csv", many([1, "", 2]), ["weight=b"], 3, "the weight nan"),
    "weight of words": ("t.csv", PLAIN, ["weight=b"], 3, "column 'b' is of kind category"),
    "weight and target": ("t.csv", many([1, 2, 3]), ["weight=b", "target=b"], 2, "both target and weight"),
    "target twice": ("t.csv", PLAIN, ["target=[b, b]"], 2, "given twice"),
    "no such group": ("t.csv", PLAIN, ["split.group=lable"], 2, "label"),
    "no such time": ("t.csv", PLAIN, ["split.time=when"], 2, "unknown column 'when'"),
    "no such target": ("t.csv", PLAIN, ["target=lable"], 2, "did you mean: label"),
    "no such weight": ("t.csv", PLAIN, ["weight=w"], 2, "unknown column 'w'"),
    "no such column": ("t.csv", PLAIN, ["columns={q: number}"], 2, "unknown column 'q'"),
    "time of words": ("t.csv", PLAIN, ["split.time=b"], 3, "timestamp or number"),
    "one time": ("t.csv", many([5] * 9), ["split.time=b"], 3, "1 different times"),
    "group of tags": ("t.csv", PLAIN, ["split.group=b", "columns={b: tags}"], 3, "of kind tags"),
    "number of words": ("t.csv", PLAIN, ["columns={b: number}"], 3, "no cell of the column 'b' is a number"),
    "date of words": ("t.csv", PLAIN, ["columns={b: timestamp}"], 3, "no cell of the column 'b' is a date"),
    "image of words": ("t.csv", PLAIN, ["columns={b: image}"], 3, "image: b"),
    "text to predict": ("t.csv", PLAIN, ["columns={b: text}", "target=b"], 3, "cannot be predicted"),
    "separator of nothing": ("t.csv", PLAIN, ["columns={b: {type: tags, separator: ''}}"], 2, "separator"),
    "no objects": ("t.jsonl", "[1]\n2\n", [], 3, "no line of it is a JSON object"),
    "empty objects": ("t.jsonl", "{}\n{}\n", [], 3, "without columns"),
    "lists without tags": ("t.jsonl", '{"a": 1.5, "label": []}\n' * 9, [], 3, "without any tag"),
    "cut Parquet": ("t.parquet", b"PAR1" + b"x" * 90, [], 3, "not readable as Parquet"),
    "another kind": ("t.xml", "[]", [], 3, "no reader recognises"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_end_in_one_clear_error(in_folder, capsys, case):
    name, content, settings_, code, said = BAD[case]
    (in_folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    inspect = [word for s in settings_ for word in ("--set", s)]
    train = [word for s in settings_ for word in ("--set", f"data.{s}")]
    for command in (
        ["inspect", name, *inspect],
        ["finetune", name, "--budget", "2 steps", "--quiet", *train],
    ):
        assert main(command) == code
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (many([1] * 9).replace(",1\n", ",0\n"), "label is 0 in every labelled training row"),
        ("a,b,label\n1,2,x\n2,3,y\n", "no labelled rows are held out"),
        (PLAIN.replace("no\n", "\n").replace("yes\n", "\n"), "no labelled records"),
        (many(["1e300"] * 9).replace("label", "c").replace(",b,", ",label,"), "no labelled records"),
    ],
)
def test_tables_that_nothing_is_learned_from(in_folder, capsys, content, said):
    (in_folder / "t.csv").write_text(content)
    assert main(["inspect", "t.csv"]) == 0
    assert main(["finetune", "t.csv", "--budget", "2 steps", "--quiet"]) in (2, 3)
    assert said in capsys.readouterr().err


def test_records_that_do_not_fit_are_named(tmp_path):
    data = load(tmp_path, PLAIN + "1,2\n3,x,yes,9\n" + PLAIN.partition("\n")[2])
    assert data.quarantine == [
        {"record": "t.csv:41", "reason": "2 cells, not 3"},
        {"record": "t.csv:42", "reason": "4 cells, not 3"},
    ]
    assert data.names[40] == "t.csv:43" and len(data) == 80
    swallowed = load(tmp_path, PLAIN + '1,"x,yes\n' + PLAIN.partition("\n")[2])
    assert swallowed.quarantine[0]["reason"].endswith("with the 40 lines after it, which an open quote takes")
    deep = "[" * 100_000 + "]" * 100_000
    lines = ['{"a": 1.5, "b": "x"}', '{"a": ', "[1]", deep, '{"a": "\\ud800"}', '{"a": NaN, "b": "y"}']
    broken = load(tmp_path, "\n".join(lines), "t.jsonl", split={"test": 0.0})
    assert [q["record"] for q in broken.quarantine] == [f"t.jsonl:{n}" for n in (2, 3, 4, 5)]
    assert broken.names == ["t.jsonl:1", "t.jsonl:6"]


def test_nested_and_mixed_values_of_json(tmp_path):
    lines = [
        {"n": {"x": 1}, "l": ["p"], "m": [1, [2]], "mixed": (1, "a", None)[i % 3], "a": (1, 2.5)[i % 2]}
        for i in range(30)
    ]
    data = load(tmp_path, "".join(json.dumps(r) + "\n" for r in lines), "t.jsonl")
    assert kinds(data) == {"n": "ignored", "l": "tags", "m": "category", "mixed": "category", "a": "number"}


def test_files_of_a_folder_that_differ(tmp_path):
    (tmp_path / "train.csv").write_text("a,b,label\n1.5,x,u\n2.5,y,v\n")
    (tmp_path / "test.csv").write_text("label,b,a\nu,x,3.5\nv,z,4.5\n")
    assert jichu.load(tmp_path).tensors["numbers"][:, 0].tolist() == [3.5, 4.5, 1.5, 2.5]
    (tmp_path / "test.csv").write_text("p,q\n1,2\n2,3\n")
    with pytest.raises(DataError, match="none of the columns of"):
        jichu.load(tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "test.csv").unlink()
    (tmp_path / "train.jsonl").write_text('{"a": 1.5}\n')
    (tmp_path / "test.jsonl").write_text('{"a": [2]}\n')
    with pytest.raises(DataError, match="do not fit together"):
        jichu.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["row", "image", "numbers", "label_2", "weight", "categories", "(group)", "(time)", "split",
             "<script>alert(1)</script>\n[red]", "b" * 5000, ""],
)  # fmt: skip
def test_columns_may_be_called_anything(in_folder, name):
    text = io.StringIO()
    csv.writer(text).writerows(
        [[name, "g", "label"], *[(a, f"{b}{i % 9}", c) for i, (a, b, c) in enumerate(ROWS)]]
    )
    (in_folder / "t.csv").write_text(text.getvalue())
    data = jichu.load("t.csv", split={"group": "g"})
    assert data.table.numbers == (name,) and np.allclose(
        data.tensors["numbers"][:, 0], [a for a, _, _ in ROWS]
    )
    assert set(data.tensors) == {"numbers", "label"}
    assert main(["inspect", "t.csv"]) == 0


def test_a_model_sees_columns_as_it_was_trained_on_them():
    """Missing cells, booleans of other spelling and keys do not change the kind of a known column."""
    train = pa.table({"id": [1.0, 2, 2] * 10, "c": ["True", "False", "x"] * 10, "label": ["u", "v"] * 15})
    table = jichu.load(train, columns={"c": "category"}).table
    from jichu.data.load import load as load_with

    rows = load_with(pa.table({"id": list(range(30)), "c": pa.nulls(30), "z": [0.5] * 30}), table=table)
    assert rows.tensors["numbers"][:, 0].tolist() == list(range(30))
    assert (rows.tensors["categories"] == 0).all()
    with pytest.raises(DataError, match="column 'c' is missing"):
        load_with(pa.table({"id": [1.0, 2.0]}), table=table)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_data_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        (folder / name).write_bytes(content)
        try:
            jichu.load(folder / name)
        except (DataError, UsageError) as error:
            assert str(error)


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet="ab1.,;\"\n\t -'é|", max_size=80))
def test_any_text_is_a_table_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_text(content)
    try:
        jichu.load(path)
    except DataError as error:
        assert str(error)


def test_tables_of_another_kind_are_told(tmp_path):
    (tmp_path / "train.csv").write_text("a,label\n1,x\n2,y\n")
    (tmp_path / "more.jsonl").write_text('{"a": 3, "label": "x"}\n')
    (tmp_path / "readme.txt").write_text("what this is")
    source = read(str(tmp_path))
    assert len(source.names) == 2
    assert [fault["record"] for fault in source.quarantine] == ["more.jsonl"]
    assert source.quarantine[0]["reason"] == "not read: beside train.csv it is a table of another kind"
    assert read(str(tmp_path / "more.jsonl")).quarantine == []
