"""Texts: how they are read whatever they are in, kept, cleaned, compared and told of."""

import errno
import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jichu
from conftest import SHARED
from jichu.auditing.data_page import write as write_page
from jichu.cli.inspect import lines as told
from jichu.cli.main import main
from jichu.core.errors import DataError, DiskFull, UsageError
from jichu.data import shingles
from jichu.data.cleaning import quality
from jichu.data.config import CleanConfig, DataConfig, QualityConfig
from jichu.data.formats import jsonl, plain
from jichu.data.inspection import inspect
from jichu.data.language import language
from jichu.data.load import load
from jichu.data.ragged import Ragged
from jichu.data.texts import ragged, text_of, write

EN = "The quick brown fox jumps over the lazy dog, and that is all there is to say of it."
ZH = "今天天气很好，我们去公园散步吧。我觉得这本书很有意思，虽然有点长。"
RTL = "שלום עולם، مرحبا بالعالم 👩‍👩‍👧 e\u0301 🇨🇳"


def opened(path, **config):
    return load(str(path), DataConfig(path=str(path), **config))


def texts(dataset, name="text"):
    return [text_of(dataset.texts[name], i) for i in range(len(dataset))]


def reasons(dataset):
    return {fault["record"]: fault["reason"] for fault in dataset.quarantine}


def wrote(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- plain text


def test_lines_paragraphs_files_and_pieces(tmp_path):
    text = "one\ntwo\n\n\nthree 三\n \t\nfour\n"
    path = wrote(tmp_path / "a.txt", text)

    def read(documents):
        return opened(path, reader={"name": "text", "documents": documents})

    found = read("line")
    assert texts(found) == ["one", "two", "three 三", "four"]
    assert list(found.names) == ["a.txt:1", "a.txt:2", "a.txt:5", "a.txt:7"]
    assert texts(read("paragraph")) == ["one\ntwo", "three 三", "four"]
    assert texts(read("file")) == [text]
    long = wrote(tmp_path / "b.txt", "".join(f"line {i}\n" for i in range(500)))
    pieces = texts(opened(long, reader={"name": "text", "documents": 100}))
    assert "".join(pieces) == long.read_text() and all(len(p) >= 100 and p[-1] == "\n" for p in pieces[:-1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12), max_size=12),
    st.integers(1, 9),
    st.sampled_from(["line", "paragraph", 5]),
)
def test_blocks_of_any_size_cut_alike(parts, size, how):
    """What lies across two blocks read is cut as if all had been read at once."""
    whole = "\n".join(parts).encode()
    blocks = [whole[i : i + size] for i in range(0, len(whole), size)]
    if how == "paragraph":
        strip = lambda found: [d for d in (d.strip(b"\n \t") for d in found) if d]  # noqa: E731
        expected = re.split(rb"\n(?:[ \t]*\n)+", whole)
    else:
        strip = list
        expected = whole.split(b"\n")
    found = [d for part in plain.cut(blocks, how) for d in part]
    if isinstance(how, int):
        assert b"".join(found) == whole
        assert all(len(d) >= how and d.endswith(b"\n") for d in found[:-1])
    else:
        assert strip(found) == strip(expected)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", ZH), ("utf-8-sig", RTL), ("utf-16", ZH + RTL), ("utf-32", EN), ("gb18030", ZH), ("big5", "今天天氣很好我們去公園"),
        ("cp1252", "L’été à la plage, c’était « déjà vu »"), ("latin-1", "Ein Käse für Zoë"), ("cp1251", "Съешь ещё этих мягких булок"),
        ("shift_jis", "今日はとても天気がいいですね。"),
    ],
)  # fmt: skip
def test_encodings_are_found_and_told(tmp_path, encoding, text):
    body = "\n".join(f"{text} {i}" for i in range(40))
    path = wrote(tmp_path / "a.txt.gz", gzip.compress(body.encode(encoding)))
    found = opened(path)
    assert texts(found) == body.split("\n")
    assert bool(found.encodings) == (encoding not in ("utf-8", "utf-8-sig"))
    said = "\n".join(told(inspect(found)))
    assert ("encodings: a.txt.gz read as" in said) == bool(found.encodings)


def test_a_declared_encoding_is_taken_and_a_wrong_one_named(tmp_path):
    path = wrote(tmp_path / "a.txt", "Łódź i Kraków\n".encode("cp1250") * 30)
    assert texts(opened(path, reader={"name": "text", "encoding": "cp1250"}))[0] == "Łódź i Kraków"
    with pytest.raises(DataError, match="not readable as ascii"):
        opened(path, reader={"name": "text", "encoding": "ascii"})


def test_lines_taken_apart_by_a_pattern(tmp_path):
    rows = ["DESC:manner How did it go ?", "HUM:ind Who : what ?", "no label here", "NUM:date When ?"]
    path = wrote(tmp_path / "a.txt", "\n".join(rows * 10))
    found = opened(path, reader={"name": "text", "line": "{label}:{fine} {text}"})
    assert texts(found)[:3] == ["How did it go ?", "Who : what ?", "When ?"]
    assert found.classes == ["DESC", "HUM", "NUM"] and found.kind == "text"
    assert len(found) == 30 and "does not fit" in reasons(found)["a.txt:3"]
    with pytest.raises(UsageError, match="cuts nothing"):
        opened(path, reader={"name": "text", "line": "{a}{b}"})
    with pytest.raises(DataError, match="no line fits"):
        opened(path, reader={"name": "text", "line": "{a}\t{text}"})


def test_a_folder_of_texts(tmp_path):
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            for i in range(3):
                wrote(tmp_path / "d" / split / label / f"{i}.txt", f"{split} {label} {i}\n\nsecond part")
    wrote(tmp_path / "d" / "train" / "pos" / "x.pyc", b"\0")
    wrote(tmp_path / "d" / "train" / "pos" / "empty.txt", "")
    wrote(tmp_path / "d" / "train" / "pos" / "binary.txt", b"\0" * 99)
    wrote(tmp_path / "d" / ".git" / "x.txt", "hidden")
    found = opened(tmp_path / "d", reader={"name": "text", "labels": True})
    assert len(found) == 12 and found.classes == ["neg", "pos"]
    assert {n: len(rows) for n, rows in found.splits.items()} == {"train": 6, "test": 6}
    assert found.names[0] == "test/neg/0.txt" and texts(found)[0] == "test neg 0\n\nsecond part"
    said = reasons(found)
    assert said["train/pos/empty.txt"] == "the file is empty" and "no text" in said["train/pos/binary.txt"]
    assert said["d/*.pyc"] == "1 files ending in .pyc are not among the texts"
    code = wrote(tmp_path / "code" / "a.py", "def f():\n\n    return 1\n").parent
    assert texts(opened(code)) == ["def f():\n\n    return 1\n"]


def test_files_in_two_languages(tmp_path):
    for split, n in (("train", 5), ("test", 2)):
        wrote(tmp_path / f"{split}.en", "".join(f"{split} {i}\n" for i in range(n)))
        wrote(
            tmp_path / f"{split}.de.gz",
            gzip.compress("".join(f"{split} Zeile {i}\n" for i in range(n)).encode()),
        )
    pair = {"name": "text", "pair": ["en", "de"]}
    found = opened(tmp_path, reader=pair)
    assert list(found.texts) == ["text", "text_2"] and "train Zeile 1" in texts(found, "text_2")
    found = opened(tmp_path, reader=pair, target="de")
    assert found.targets["label"].task == "text" and "train Zeile 0" in texts(found, "label")
    assert "label" not in found.tensors and len(found.labelled("train")) == 5
    assert found.about_targets(found.splits["train"])["label"].rows == 5
    wrote(tmp_path / "train.en", "too short\n")
    with pytest.raises(DataError, match="1 lines, and 5 in"):
        opened(tmp_path, reader=pair)


def test_the_last_part_can_be_held_out(tmp_path):
    path = wrote(tmp_path / "a.txt", "\n".join(f"line {i}" for i in range(100)))
    found = opened(path, split={"time": "position", "test": 0.1})
    assert found.splits["test"].tolist() == [*range(90, 100)]


# --- tables of texts, and conversations


def test_texts_in_tables(tmp_path):
    rows = [{"id": f"x{i}", "text": f"{EN} {i}\u2028\u0085 end", "label": i % 2} for i in range(40)]
    path = wrote(tmp_path / "a.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows))
    found = opened(path)
    assert found.kind == "text" and texts(found) == [r["text"] for r in rows] and found.classes == ["0", "1"]
    path = wrote(tmp_path / "b.json", json.dumps([{"author": "a", "paragraphs": ["一行", "二行 👍"]}] * 3))
    assert texts(opened(path, text="paragraphs")) == ["一行\n二行 👍"] * 3
    path = tmp_path / "c.parquet"
    pq.write_table(
        pa.table({"q": [f"{EN} {i}" for i in range(30)], "p": [f"{ZH} {i}" for i in range(30)]}), path
    )
    found = opened(path)
    assert list(found.texts) == ["text", "text_2"] and texts(found, "text_2")[3] == f"{ZH} 3"
    assert list(opened(path, text="p").texts) == ["text"]


def test_tables_without_a_line_of_names(tmp_path):
    english = "\n".join(f"{i % 2}\tthis is sentence number {i} of them" for i in range(60))
    found = opened(wrote(tmp_path / "a" / "train.tsv", english).parent)
    assert found.kind == "text" and found.classes == ["0", "1"] and texts(found)[7].endswith("7 of them")
    wrote(tmp_path / "a" / "labels.txt", "bad\ngood\n")
    assert opened(tmp_path / "a").classes == ["bad", "good"]
    chinese = "\n".join(f"这是第{i}个句子，没有空格的\tnews_{'ab'[i % 2]}" for i in range(60))
    found = opened(wrote(tmp_path / "b" / "dev.tsv", chinese).parent)
    assert found.kind == "text" and found.classes == ["news_a", "news_b"]


def test_numbers_and_texts_stay_a_table_until_told(tmp_path):
    rows = "\n".join(f'{i},"{EN} {i}",{"ab"[i % 2]}' for i in range(40))
    path = wrote(tmp_path / "a.csv", "age,remark,label\n" + rows)
    found = opened(path)
    assert found.kind == "table" and not found.texts
    assert next(c for c in found.columns if c["name"] == "remark")["role"] == "not used"
    found = opened(path, text="remark")
    assert found.kind == "text" and not found.table and texts(found)[5] == f"{EN} 5"
    with pytest.raises(DataError, match="only other texts can tell"):
        opened(path, target="remark")
    for wrong in ({"text": "remrk"}, {"text": ["remark", "remark"]}, {"text": "label", "target": "label"}):
        with pytest.raises(UsageError, match=r"data\.text"):
            opened(path, **wrong)


CHATS = {
    "messages.jsonl": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "你好 \n\u2028"}]},
    "parts.jsonl": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]},
                                 {"role": "assistant", "content": [{"type": "text", "value": "你好 \n\u2028"}]}]},
    "sharegpt.json": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "你好 \n\u2028"}]},
    "alpaca.json": {"instruction": "hi", "input": "", "output": "你好 \n\u2028"},
}  # fmt: skip


@pytest.mark.parametrize("name", CHATS)
def test_conversations(tmp_path, name):
    rows = [CHATS[name]] * 3
    body = (
        json.dumps(rows)
        if name.endswith(".json")
        else "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    )
    found = opened(wrote(tmp_path / name, body))
    assert found.chat and found.kind == "text" and len(found) == 3
    assert json.loads(texts(found)[0]) == CHATS["messages.jsonl"]["messages"]


def test_conversations_that_cannot_be_used(tmp_path):
    good = CHATS["messages.jsonl"]
    bad = {
        "by 'nobody'": {"messages": [{"role": "nobody", "content": "x"}]},
        "without an answer": {"messages": [{"role": "user", "content": "x"}]},
        "NUL": {"messages": [{"role": "assistant", "content": "x\0"}]},
        "where messages should": {"messages": None},
    }
    path = wrote(tmp_path / "a.jsonl", "\n".join(json.dumps(r) for r in [good, *bad.values(), good]))
    found = opened(path)
    assert len(found) == 2
    for i, why in enumerate(bad):
        assert why in reasons(found)[f"a.jsonl:{i + 2}"]


def test_of_conversations_what_is_said_is_compared(tmp_path):
    """Not the names of their parts, in which short ones are all alike."""
    said = [("hi", "hello"), ("bye", "see you"), ("HI!", "Hello..."), ("x", "y" * 50)]
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in said
    ]
    path = wrote(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    found = opened(path, clean={"near": True, "length": [1, 20]})
    assert found.cleaned == {"length": 1, "near": 1}
    assert reasons(found)["a.jsonl:3"] == "nearly the same as a.jsonl:1"
    assert reasons(found)["a.jsonl:4"] == "52 characters, more than 20"


def test_conversations_in_yaml(tmp_path):
    wrote(
        tmp_path / "c" / "en" / "a.yml",
        "conversations:\n- - Yes or no?\n  - no\n- - 42\n- - a\n  - b\n  - c\n  - d\n",
    )
    wrote(tmp_path / "c" / "b.yml", "conversations: [[&a q, *a]]\n")
    wrote(tmp_path / "c" / "broken.yml", "conversations: [")
    found = opened(tmp_path / "c")
    assert found.chat and len(found) == 3
    said = [[m["content"] for m in json.loads(t)] for t in texts(found)]
    assert said == [["q", "q"], ["Yes or no?", "no"], ["a", "b", "c", "d"]]
    assert "without an answer" in reasons(found)["en/a.yml:1"] and "broken.yml" in reasons(found)


def test_conversations_of_all_forms_together(tmp_path):
    wrote(tmp_path / "c" / "a.yml", "conversations:\n- - Hi\n  - Hello\n")
    rows = [
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]},
        {"instruction": "Nothing", "output": ""},
    ]
    wrote(tmp_path / "c" / "b.jsonl", "\n".join(map(json.dumps, rows)))
    wrote(tmp_path / "c" / "c.json", json.dumps(rows[:1]))
    wrote(tmp_path / "c" / "d.json", '[{"a": 1}]')
    wrote(tmp_path / "c" / "e.txt", "what is this?")
    said = [["Add\n1 and 2", "3"], ["Why?", "So."], ["What?", "That."]]
    found = opened(tmp_path / "c")
    assert [[m["content"] for m in json.loads(t)] for t in texts(found)] == [["Hi", "Hello"], *said, said[0]]
    assert reasons(found).keys() == {"b.jsonl:4", "d.json", "e.txt"}
    found = opened(tmp_path / "c" / "b.jsonl")
    assert [[m["content"] for m in json.loads(t)] for t in texts(found)] == said
    late = [*rows[:1] * 150, *rows[1:3] * 2]  # what comes first does not decide
    wrote(tmp_path / "late.jsonl", "\n".join(map(json.dumps, late)))
    assert len(opened(tmp_path / "late.jsonl")) == len(late) and opened(tmp_path / "late.jsonl").chat


def test_conversations_in_files_of_several_forms(tmp_path):
    alpaca = {"instruction": "Add 1 and 2", "output": "3"}
    sharegpt = {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}
    wrote(tmp_path / "d" / "train.jsonl", json.dumps(alpaca))
    wrote(tmp_path / "d" / "test.jsonl", json.dumps(sharegpt))
    found = opened(tmp_path / "d")
    assert found.chat and len(found) == 2 and found.splits["test"].tolist() == [0]
    wrote(tmp_path / "d" / "train.yml", "conversations: [[Hi, Hello]]")
    wrote(tmp_path / "d" / ".git" / "index.json", json.dumps([alpaca]))
    wrote(tmp_path / "d" / "docs" / "readme.md", "all of it")
    found = opened(tmp_path / "d")
    assert len(found) == 3 and len(found.splits["test"]) == 1 and reasons(found).keys() == {"docs/readme.md"}


def test_a_module_called_test_is_no_test_set(tmp_path):
    for name in ("test.py", "train.py", "other.py"):
        wrote(tmp_path / "code" / name, f"def {name[:-3]}():\n    return 1\n")
    assert len(opened(tmp_path / "code", split={"test": 0.34}).splits["train"]) == 2
    wrote(tmp_path / "prose" / "test.txt", EN)
    wrote(tmp_path / "prose" / "train.txt", ZH)
    assert opened(tmp_path / "prose").splits["test"].tolist() == [0]


def test_a_table_beside_yaml_is_a_table(tmp_path):
    wrote(tmp_path / "t" / "train.csv", "x,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(9)))
    wrote(tmp_path / "t" / "config.yml", "max_conversations: 3\nconversations: []\n")
    assert len(opened(tmp_path / "t")) == 9


# --- what is no text


def test_bad_documents_are_told_and_the_rest_kept(tmp_path):
    good = [
        EN,
        ZH,
        RTL,
        "\x1b[1mbold\x1b[0m and a lot of words after it, so that it is text",
        "\u2028",
        "a" * 70_000,
    ]
    bad = {"control": "\x01\x02\x03ab", "NUL": "a\0b", "no text": "\t \x0b"}
    table = pa.table({"text": [*good, *bad.values(), None, ""]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = opened(tmp_path / "a.parquet", text="text")
    assert texts(found) == good
    for i, why in enumerate([*bad, "no text", "no text"]):
        assert why in reasons(found)[f"a.parquet:{len(good) + i}"]


def test_damaged_utf8_costs_its_own_documents_only(tmp_path):
    lines = [f"{ZH}{i}".encode() for i in range(50)]
    lines[7] = lines[7][:9] + b"\xff" + lines[7][9:]
    found = opened(wrote(tmp_path / "a.txt", b"\n".join(lines)))
    assert len(found) == 49 and not found.encodings
    assert reasons(found) == {"a.txt:8": "not UTF-8: byte 0xff at 9"}
    rows = [json.dumps({"text": f"{ZH}{i}"}, ensure_ascii=False).encode() for i in range(50)]
    rows[3] = rows[3].replace("好".encode(), b"\xe5\xa5")
    found = opened(wrote(tmp_path / "a.jsonl", b"\n".join(rows)))
    assert len(found) == 49 and "not UTF-8" in reasons(found)["a.jsonl:4"]


def test_one_line_of_many_megabytes(tmp_path):
    line = (EN * 300_000).encode()  # 25 MB
    found = opened(
        wrote(tmp_path / "a.txt", line + b"\nand a short one"), reader={"name": "text", "documents": "line"}
    )
    assert found.texts["text"].lengths.tolist() == [len(line), 15]
    found = opened(wrote(tmp_path / "a.jsonl", json.dumps({"text": line.decode()})), text="text")
    assert found.texts["text"].lengths.tolist() == [len(line)]


def test_nothing_but_faults_is_an_error_with_the_first(tmp_path):
    for name, content in (
        ("a.txt", b""),
        ("b.txt", b"\n \n"),
        ("c.txt", b"\0" * 50),
        ("e.json", b"{}"),
        ("f.json", b"[1]"),
    ):
        with pytest.raises(DataError, match=r"[\w ]{8,}"):
            opened(wrote(tmp_path / name, content))
    with pytest.raises(DataError, match="no texts in"):
        opened(wrote(tmp_path / "d" / "x.bin", b"").parent, reader="text")


def test_texts_in_memory():
    found = jichu.load(["one", "two", "three"])
    assert found.kind == "text" and texts(found) == ["one", "two", "three"]


# --- the store


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9), min_size=1, max_size=9
    ),
    st.data(),
)
def test_ragged_rows_can_be_taken(rows, data):
    held = ragged(rows)
    assert [text_of(held, i) for i in range(len(held))] == rows
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9))
    part = held.take(torch.tensor(chosen, dtype=torch.int64))
    assert [text_of(part, i) for i in range(len(part))] == [rows[i] for i in chosen]
    padded = held.padded(torch.tensor(chosen, dtype=torch.int64), fill=-1, longest=4)
    assert [bytes(r[r >= 0].tolist()) for r in padded] == [rows[i].encode()[:4] for i in chosen]


def test_a_second_start_reads_the_store_only(tmp_path, monkeypatch):
    import time

    path = wrote(tmp_path / "a.txt", "\n".join(f"{EN} {i}" for i in range(200)))
    time.sleep(0.05)
    first = opened(path)
    monkeypatch.setattr(plain, "blocks", None)
    again = opened(path)
    assert texts(again) == texts(first) and again.summary() == first.summary()
    again.texts["text"].values[:3] = 0  # private pages
    assert texts(opened(path)) == texts(first)


def test_what_is_large_goes_through_the_disk(tmp_path, monkeypatch):
    """Read, gathered and written in parts, it comes out the same."""
    from jichu.data import large_tables

    rows = [{"text": f"{EN} {i} {ZH}", "n": i if i < 150 else str(i)} for i in range(300)]
    path = wrote(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    lines = wrote(tmp_path / "b.txt", "\n".join(r["text"] for r in rows))
    expected = [r["text"] for r in rows]
    for module, name, value in (
        (large_tables, "LARGE", 1),
        (jsonl, "LARGE", 1),
        (jsonl, "_TOGETHER", 5000),
        (plain, "BLOCK", 999),
    ):
        monkeypatch.setattr(module, name, value)
    assert texts(opened(path, text="text")) == expected
    table, numbers, _ = jsonl.read(path)
    assert table["n"].to_pylist() == [str(r["n"]) for r in rows] and numbers.tolist() == [*range(1, 301)]
    assert texts(opened(lines)) == expected


# --- cleaning


def plain_words(text):
    """An independent reading of what a word is."""
    return re.findall(r"[一-鿿]|(?:(?![一-鿿])[^\W_])+", text.lower())


def plain_runs(text, n):
    found = plain_words(text)
    return {tuple(found[i : i + n]) for i in range(max(1, len(found) - n + 1))} if found else set()


def plain_jaccard(one, other, n=5):
    a, b = plain_runs(one, n), plain_runs(other, n)
    return len(a & b) / len(a | b) if a | b else 0.0


WORDS = st.lists(st.sampled_from(["a", "Bee", "c3", "天", "地x", "d-e", "é!", ",", "\n"]), max_size=14).map(
    " ".join
)


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6), st.integers(1, 6))
def test_jaccard_of_hashed_runs_is_that_of_sets(rows, n):
    pairs = np.array([[i, j] for i in range(len(rows)) for j in range(i)])
    found = shingles.jaccard(shingles.runs(ragged(rows), n), pairs)
    assert found == pytest.approx([plain_jaccard(rows[i], rows[j], n) for i, j in pairs])


def test_near_duplicates_are_those_of_an_exhaustive_search():
    """MinHash against the Jaccard index of all pairs: none that is none, and hardly any missed."""
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)]
    rows = []
    for _ in range(60):
        base = rng.choice(words, 60).tolist()
        rows.append(base)
        for changes in (1, 2, 4, 8):
            copy = list(base)
            for at in rng.integers(0, 60, changes):
                copy[at] = rng.choice(words)
            rows.append(copy)
    rows = [" ".join(r) for r in rows]
    index = {(i, j): plain_jaccard(rows[i], rows[j]) for j in range(len(rows)) for i in range(j)}
    for threshold in (0.5, 0.8):
        true = {pair for pair, value in index.items() if value >= threshold}
        found = {*map(tuple, shingles.near_texts(ragged(rows), np.arange(len(rows)), threshold).tolist())}
        assert found <= true and len(found) >= (0.97 if threshold == 0.8 else 0.5) * len(true) > 50


def test_each_rule_is_counted_told_and_undone(tmp_path):
    long = " ".join(f"word{i} and of the {i * 7 % 13}th kind" for i in range(40))
    rows = {
        "good": long, "again": long, "nearly": long.replace("word7 ", "words7 "), "short": "hi",
        "german": "Das ist ein Satz in der Sprache, die nicht die von den anderen ist, und das ist auch gut so.",
        "symbols": "# # # ... # word # # … # # … words # of # the #", "fine": EN,
    }  # fmt: skip
    path = wrote(tmp_path / "a.json", json.dumps([{"text": text} for text in rows.values()]))
    rules = {"length": [5, 100_000], "language": ["en"], "quality": True, "exact": True, "near": True}
    found = opened(path, text="text", clean=rules)
    assert found.cleaned == {"length": 1, "language": 1, "quality": 1, "exact": 1, "near": 1}
    used = sorted(r for rows in found.splits.values() for r in rows.tolist())
    assert used == [0, 6] and len(found) == 7
    said = reasons(found)
    assert said["a.json:2"] == "the same as a.json:1" and said["a.json:3"] == "nearly the same as a.json:1"
    assert said["a.json:4"] == "2 characters, fewer than 5" and said["a.json:5"] == "the language is de"
    again = opened(path, text="text", clean=rules)
    assert again.quarantine == found.quarantine and again.summary() == found.summary()
    assert sum(len(r) for r in opened(path, text="text").splits.values()) == 7
    assert "left out: 1 by length" in "\n".join(told(inspect(found)))


def test_what_the_source_holds_out_is_spared(tmp_path):
    passage = "one two three four five six seven eight nine ten eleven twelve thirteen"
    held = [f"{EN} held", "hi", f"{passage} at last"]
    train = [
        f"{EN} held",
        f"{EN} held out",
        "ho",
        f"so {passage.upper()}, then",
        f"nothing in common {passage[:40]}",
    ]
    for name, rows in (("train", train), ("test", held)):
        wrote(tmp_path / f"{name}.jsonl", "\n".join(json.dumps({"text": r}) for r in rows))
    clean = {"length": [3, 999], "exact": True, "near": 0.7, "contamination": True}
    found = opened(tmp_path, text="text", clean=clean)
    assert len(found.splits["test"]) == 3 and found.cleaned == {
        "length": 1,
        "exact": 1,
        "near": 1,
        "contamination": 1,
    }
    assert [texts(found)[r] for r in found.splits["train"].tolist()] == train[-1:]
    assert reasons(found)["train.jsonl:4"] == "shares a passage with test.jsonl:3, which is held out"
    seen = inspect(opened(tmp_path, text="text"))
    assert seen["contamination"]["pairs"] == 2 and seen["near_duplicates"]["across_splits"] == 1
    with pytest.raises(UsageError, match=r"no texts to be cleaned"):
        jichu.load("sklearn:iris", clean={"exact": True})


def test_chinese_passages_are_counted_in_characters():
    passage = "".join(chr(0x4E00 + i * 37 % 2000) for i in range(40))
    rows = ragged([f"开头{passage}", f"另外{passage[:30]}不同", f"另外{passage[:29]}不同"])
    pairs = shingles.shared_passages({"text": rows}, np.array([1, 2]), np.array([0]))
    assert pairs.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", EN), ("zh", ZH), ("ja", "今日はとても天気がいいですね。"), ("ko", "오늘은 날씨가 정말 좋네요."),
        ("ru", "Съешь ещё этих мягких французских булок"), ("uk", "Привіт, як твої справи сьогодні?"), ("ar", "مرحبا بالعالم"),
        ("de", "Das ist ein Satz in der deutschen Sprache und nicht mehr."), ("fr", "C'est une phrase dans la langue de Molière et pas plus."),
        ("es", "Esta es una frase en la lengua de los españoles y no más."), ("it", "Questa è una frase che non è di nessuno."),
        ("he", "שלום עולם"), ("th", "สวัสดีชาวโลก"), ("unknown", "42 !!!"), ("unknown", "Xyzzy plugh"), ("unknown", ""),
    ],
)  # fmt: skip
def test_languages(code, text):
    assert language(text) == code


def test_quality_tells_prose_from_the_rest():
    limits = QualityConfig()
    for good in (EN * 3, ZH * 3, "hi", "", RTL, "\n".join(f"{EN} {i}" for i in range(20))):
        assert quality(good, limits) == ""
    for bad, why in (
        ("\n".join(["the same line"] * 20), "stood there before"), ("\n".join(f"- point {i}" for i in range(20)), "bullet"),
        ("\n".join(f"go on {i} ..." for i in range(20)), "ellipsis"), ("12 34 56 78 90 11 12 ab " * 2, "have a letter"),
        ("a b c d e f g h i j k", "letters a word"), ("！？。，" * 9 + "好", "are letters"),
    ):  # fmt: skip
        assert why in quality(bad, limits)


def test_a_language_nobody_tells_is_refused():
    with pytest.raises(ValueError, match="'tlh' is no language"):
        CleanConfig(language=["tlh"])


# --- what is told


def test_figures_and_page_of_texts(tmp_path):
    rows = [{"text": f"{(EN, ZH)[i % 2]} <i>{i}</i>", "label": "xy"[i % 2]} for i in range(60)] + [
        {"text": f"{EN} <i>0</i>", "label": "x"}
    ]
    path = wrote(tmp_path / "a.jsonl", "\n".join(json.dumps(r) for r in rows))
    found = opened(path)
    seen = inspect(found)
    column = next(c for c in seen["columns"] if c["name"] == "text")
    lengths = sorted(len(r["text"]) for r in rows)
    assert column["characters"] == sum(lengths) and column["bytes"] == sum(
        len(r["text"].encode()) for r in rows
    )
    assert (
        column["lengths"][0] == lengths[0]
        and column["lengths"][2] == lengths[30]
        and column["lengths"][4] == lengths[-1]
    )
    assert sum(column["histogram"]["counts"]) == 61 and column["languages"] == {"en": 31, "zh": 30}
    assert sum(column["scripts"].values()) == pytest.approx(1, abs=0.01) and column["distinct"] == 60
    assert seen["exact_duplicates"]["pairs"] == 1 and found.duplicates["exact"] == 1
    write_page(tmp_path / "page.html", found, seen)
    page = (tmp_path / "page.html").read_text()
    assert (
        "&lt;i&gt;0&lt;/i&gt;" in page and "<i>0</i>" not in page and "characters, half of the texts" in page
    )


def test_inspect_command_on_conversations(tmp_path, capsys):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"say {i}"},
                {"role": "assistant", "content": f"{i} it is"},
            ]
        }
        for i in range(20)
    ]
    path = wrote(tmp_path / "a.jsonl", "\n".join(json.dumps(r) for r in rows))
    assert main(["inspect", str(path), "--page", str(tmp_path / "p.html")]) == 0
    assert (
        "input, conversations" in capsys.readouterr().out and "assistant" in (tmp_path / "p.html").read_text()
    )
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chat"] is True


# --- data of others


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("name", "config", "rows", "classes"),
    [
        ("sst2", {}, 9613, 2), ("chnsenticorp", {}, None, 2), ("tnews", {}, 63360, 15), ("imdb_subset", {}, 8000, 2),
        ("trec", {"reader": {"name": "text", "line": "{label}:{fine} {text}"}}, 5952, 6), ("tinyshakespeare", {}, 7222, 0),
        ("chinese_poetry_songci", {"text": "paragraphs"}, 21053, 0), ("chatterbot_corpus", {}, 2492, 0),
        ("multi30k", {"reader": {"name": "text", "pair": ["en", "de"]}}, 31014, 0), ("llamafactory_demo/alpaca_zh_demo.json", {}, 1000, 0),
        ("llamafactory_demo/glaive_toolcall_en_demo.json", {}, 300, 0), ("llamafactory_demo/wiki_demo.txt.gz", {}, 30, 0),
    ],
)  # fmt: skip
def test_data_of_others(name, config, rows, classes):
    found = opened(SHARED / name, **config)
    assert found.kind == "text" and len(found.classes) == classes and len(found) == (rows or len(found))
    assert found.chat == any(word in name for word in ("chatterbot", "alpaca", "glaive"))
    assert found.encodings == ({"train.txt": "cp1252"} if name == "trec" else {})


def test_ragged_offsets_must_fit(tmp_path):
    from jichu.data.mapped import ragged as mapped_rows

    np.arange(6, dtype=np.uint8).tofile(tmp_path / "t")
    np.array([0, 2, 6], np.int64).tofile(tmp_path / "t.offsets")
    held = mapped_rows(tmp_path / "t", 2, 6, "uint8")
    assert isinstance(held, Ragged) and held[1].tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="not whole"):
        mapped_rows(tmp_path / "t", 2, 5, "uint8")


def test_docs_name_every_key_of_cleaning():
    page = (Path(__file__).parents[1] / "docs/texts.md").read_text(encoding="utf-8")
    assert [key for key in CleanConfig.model_fields if f"`{key}" not in page] == []


def test_a_full_disk_is_told_where_texts_are_compared(monkeypatch):
    """Written to through memory it would end the process."""

    def full(*given):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskFull):
        shingles.near_texts(ragged(["one two three", "four five six"]), np.arange(2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_told_where_texts_are_written():
    cells = pa.array(["one", "two"])
    for full in ("values", "offsets"):
        files = {name: open(os.devnull, "wb") for name in ("values", "offsets")}  # noqa: SIM115
        files[full].close()
        with pytest.raises(OSError, match="No space"), open("/dev/full", "wb") as files[full]:
            write(cells, np.ones(2, bool), **files)
        files["offsets" if full == "values" else "values"].close()
