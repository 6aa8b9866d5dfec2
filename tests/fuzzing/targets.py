"""What is tried: for each target a function that makes one case and hands it to the library.

`TARGETS` holds, by name, the function, its share of all cases and the seconds it is given.
"""

import contextlib
import functools
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from jichu.cli.main import main
from jichu.core.config import check, dump_yaml, parse_yaml
from jichu.data.config import CleanConfig, DataConfig
from jichu.data.dataset import load
from jichu.data.decode import UNREADABLE, Preprocess, decode_image, peek_image
from jichu.data.inspection import inspect as look_into
from jichu.models import folder as model_folder
from jichu.models.hub import load as load_checkpoint
from jichu.models.hub import trained_size
from jichu.models.transformers_vision import save_pretrained, vit
from jichu.models.weights import read_tensors as read_weights
from jichu.recipe.checks import check_names
from jichu.recipe.config import STAGES, Recipe, folder_of_recipes, read_recipe, shipped
from jichu.recipe.run import execute
from jichu.runs import Run
from jichu.train import checkpoint

from . import grammar
from .cases import Broken, command, tolerant
from .mutations import NUMBERS, misspelt, odd, places, snippets, spoil_bytes, spoil_text, spoil_tree

# --- recipes


@functools.cache
def _shipped():
    found = {name: (folder_of_recipes() / f"{name}.yaml").read_text(encoding="utf-8") for name in shipped()}
    return found, {name: parse_yaml(text) for name, text in found.items()}


def _recipe_tree(rng):
    return grammar.recipe(rng) if rng.random() < 0.6 else rng.choice(list(_shipped()[1].values()))


def _recipe_text(case):
    rng = case.rng
    tree = _recipe_tree(rng)
    if rng.random() < 0.7:
        tree = spoil_tree(rng, tree)
    text = _yaml(rng, tree)
    return spoil_text(rng, text, case.canary) if rng.random() < 0.4 else text


def _yaml(rng, tree):
    try:
        return dump_yaml(tree, inline=rng.random() < 0.1)
    except Exception:  # what cannot be written as plain YAML: bytes, numbers without end
        return repr(tree)


def _same_again(recipe):
    """What is written into the run folder is read as the same recipe."""
    text = dump_yaml(recipe.plain())
    if (again := check(Recipe, parse_yaml(text))) != recipe:
        raise Broken(f"{recipe!r}\nbecame\n{again!r}")


def yaml_text(case):
    rng = case.rng
    text = (
        rng.choice(list(_shipped()[0].values())) if rng.random() < 0.5 else rng.choice(snippets(case.canary))
    )
    text = spoil_text(rng, text, case.canary)
    if rng.random() < 0.3:
        text = spoil_bytes(rng, text.encode("utf-8", "surrogatepass")).decode("latin-1")
    value = parse_yaml(text, "case.yaml")
    if (again := parse_yaml(dump_yaml(value))) != value and repr(again) != repr(value):
        raise Broken(f"{value!r} became {again!r}")


def recipe(case):
    content = _recipe_text(case).encode("utf-8", "surrogatepass")
    if case.rng.random() < 0.15:
        content = spoil_bytes(case.rng, content)
    if case.rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(
            case.rng.choice(("utf-16", "utf-32", "utf-8-sig"))
        )
    found = read_recipe(
        str(case.file("case.yaml", content)), _assignments(case) if case.rng.random() < 0.2 else []
    )
    _same_again(found)
    check_names(found, {})


def _assignments(case):
    rng = case.rng
    tree = rng.choice(list(_shipped()[1].values()))
    found = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        keys, node = [], tree
        while isinstance(node, (dict, list)) and node and (not keys or rng.random() < 0.8):
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = node[key]
            keys.append(
                node.get("name", str(key)) if isinstance(node, dict) and rng.random() < 0.3 else str(key)
            )
        if rng.random() < 0.4:
            i = rng.randrange(len(keys))
            keys[i] = rng.choice((misspelt(rng, keys[i]), str(odd(rng, 0)), "", "0", "-1", "²", "99"))
        value = rng.choice(
            (str(odd(rng)), rng.choice(snippets(case.canary)), _yaml(rng, odd(rng)), str(node))
        )
        found.append(rng.choice((".".join(keys) + "=" + value,) * 9 + (value,)))
    return found


def assignments(case):
    found = read_recipe(case.rng.choice(shipped()), _assignments(case))
    _same_again(found)
    check_names(found, {})


# --- data


def _data_config(rng, path):
    """Most keys as they are, or drawn and spoilt."""
    tree = {"path": str(path)}
    if rng.random() < 0.4:
        tree = {**grammar.sample(rng, DataConfig), "path": str(path)}
        if rng.random() < 0.5:
            tree = {**tree, "split": {}, "size": rng.choice((4, 8, "auto")), "reader": None}
        if rng.random() < 0.2:
            tree = {
                "path": str(path),
                **{k: v for k, v in dict(spoil_tree(rng, {**tree, "draws": 1})).items() if k != "path"},
            }
    config = check(DataConfig, tree)
    # 4,096 pixels a side are what was asked for, and no fault: they would only take long
    return config.model_copy(update={"size": min(config.size, 64)}) if config.size != "auto" else config


def _load(case, path):
    dataset = load(str(path), _data_config(case.rng, path), seed=case.rng.randrange(3))
    if case.rng.random() < 0.2:
        look_into(dataset)


_MODES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P", "RGB"),
          "BMP": ("1", "L", "P", "RGB"), "WEBP": ("RGB", "RGBA", "L"), "PPM": ("1", "L", "RGB", "I;16"),
          "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16")}  # fmt: skip


def _image(rng):
    """An image as bytes, and the suffix that goes with it."""
    kind = rng.choice(list(_MODES))
    size = (rng.choice((1, 2, 7, 8, 31)), rng.choice((1, 3, 8, 33)))
    mode = rng.choice(_MODES[kind])
    noise = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    image = Image.new("I;16", size, rng.randrange(65536)) if mode == "I;16" else noise.convert(mode)
    options = {"TIFF": {"compression": rng.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"))},
               "GIF": {"save_all": True, "append_images": [image] * rng.randrange(3)},
               "JPEG": {"progressive": rng.random() < 0.3, "exif": _exif(rng)},
               "PNG": {"exif": _exif(rng)}}.get(kind, {})  # fmt: skip
    if options.get("compression") == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        options = {}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue(), rng.choice((f".{kind.lower()}", ".png", ".jpg"))


def _exif(rng):
    found = Image.Exif()
    found[0x0112] = rng.randrange(10)
    return found.tobytes()


def _spoilt_image(case):
    rng = case.rng
    content, suffix = _image(rng)
    if rng.random() < 0.12:
        return rng.choice(_bombs(case.canary)), suffix
    if rng.random() < 0.9:
        content = spoil_bytes(rng, content)
    if content[:4] == b"\x89PNG" and rng.random() < 0.6:
        content = _with_right_sums(content)
    return content, suffix


def _with_right_sums(png):
    """The damage in a PNG is not to be found by its checksums alone."""
    made, i = bytearray(png[:8]), 8
    while i + 12 <= len(png):
        size = min(struct.unpack(">I", png[i : i + 4])[0], len(png))
        body = png[i + 4 : i + 8 + size]
        made += png[i : i + 4] + body + struct.pack(">I", zlib.crc32(body))
        i += 12 + size
    return bytes(made) + png[i:]


@functools.cache
def _bombs(canary):
    """Headers that promise far more than there is, and programs that call themselves images."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def png(width, height, *chunks):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")

    zeros = zlib.compress(bytes(40_000_000), 9)
    deep = zlib.compress(zeros)
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 6) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in ((256, 60000), (257, 60000), (259, 1), (262, 1), (273, 8), (279, 2**32 - 1))
    )  # fmt: skip
    script = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file closefile\nshowpage\n%%EOF\n"
    )
    return [
        png(60_000, 60_000, chunk(b"IDAT", zeros)), png(2**31 - 1, 1, chunk(b"IDAT", b"")),
        png(8, 8, chunk(b"zTXt", b"a\x00\x00" + zeros), chunk(b"IDAT", zlib.compress(bytes(200)))),
        png(8, 8, chunk(b"iCCP", b"a\x00\x00" + zeros), chunk(b"IDAT", zlib.compress(bytes(200)))),
        png(13_000, 13_000, chunk(b"IDAT", deep)), png(0, 0), png(8, 8),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x00;",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6 99999999 99999999 255\n", b"P5 1 1 0\n", b"P5 " + b"9" * 6000 + b" 1 255\n", b"Pf 99999 99999 -1.0\n",
        tiff, b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(100), b"MM\x00*\x00\x00\x00\x08" + b"\xff" * 60,
        b"RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f" + b"\x9d\x01\x2a\xff\x3f\xff\x3f" * 9,
        script.encode(), b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%PDF-1.4\n", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40), b"SIMPLE  =                    T" + b" " * 3000,
        b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x01\x00 \x00\xff\xff\xff\xff\x16\x00\x00\x00", b"BLP2" + bytes(200),
        b"", b"\x00", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9",
    ]  # fmt: skip


def image(case):
    content, suffix = _spoilt_image(case)
    to = Preprocess(
        case.rng.choice((4, 8, 32)), case.rng.choice((1, 3)), case.rng.choice(("crop", "pad", "stretch"))
    )
    path = case.file(f"case{suffix}", content)
    outcome = "done"
    for step in (lambda: peek_image(path), lambda: decode_image(path, to), lambda: decode_image(content, to)):
        try:
            found = step()
            if isinstance(found, np.ndarray) and (found.shape, found.dtype) != (
                (to.channels, to.size, to.size),
                np.uint8,
            ):
                raise Broken(f"decoded to {found.dtype} {found.shape}")
        except UNREADABLE:
            outcome = "unreadable"
    return outcome


def image_folder(case):
    rng = case.rng
    for i in range(rng.randint(1, 4)):
        content, suffix = _spoilt_image(case) if rng.random() < 0.6 else _image(rng)
        name = rng.choice(("a", "b", "unlabelled", "train", "test", "日本", " ", "a b", "A"))
        case.file(f"data/{name}/{rng.choice(('', 'x/'))}{i}{suffix}", content)
    _load(case, case.folder / "data")


def _packed(rng, content):
    """As it is, or compressed, perhaps damaged or far larger inside than outside."""
    kind = rng.random()
    if kind < 0.6:
        return content
    packed = gzip.compress(content, 1)
    if kind < 0.65:
        packed += packed
    elif kind < 0.66:
        packed = _gzip_bomb()
    return spoil_bytes(rng, packed) if kind > 0.85 else packed


@functools.cache
def _gzip_bomb():
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(
        [*(packer.compress(bytes(1 << 20)) for _ in range(200)), packer.flush()]
    )  # 0.2 MB that hold 200 MB


def idx(case):
    rng = case.rng
    shape = [rng.choice((1, 2, 5)), rng.choice((1, 4, 8)), rng.choice((1, 5, 8))]
    pixels = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + rng.randbytes(int(np.prod(shape)))
    labels = (
        bytes([0, 0, 8, 1]) + struct.pack(">I", shape[0]) + bytes(rng.randrange(3) for _ in range(shape[0]))
    )
    part = rng.choice(("train", "t10k", "test", "val", ""))
    for name, content in (("images-idx3", pixels), ("labels-idx1", labels)):
        if rng.random() < 0.6:
            content = spoil_bytes(rng, content, 2)
        if name[0] == "i" or rng.random() < 0.8:
            case.file(f"data/{part}-{name}-ubyte{rng.choice(('', '.gz'))}", _packed(rng, content))
    if rng.random() < 0.2:
        return _load(case, next((case.folder / "data").iterdir()))
    return _load(case, case.folder / "data")


class _Runs:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _evil(rng, canary):
    return rng.choice(
        [
            _Runs(os.system, f"touch {canary}"), _Runs(eval, f"open({str(canary)!r}, 'w')"),
            _Runs(open, str(canary), "w"), _Runs(exec, f"open({str(canary)!r}, 'w')"),
        ]
    )  # fmt: skip


def _pickled(case, honest):
    """The pickle of some dict: as it is, with calls in it, with other values, or damaged."""
    rng = case.rng
    tree = dict(honest)
    kind = rng.random()
    if kind < 0.25:
        tree[rng.choice(list(tree))] = _evil(rng, case.canary)
    elif kind < 0.5:
        key = rng.choice(list(tree))
        tree[key] = rng.choice(
            [
                np.array([1, 2]), np.zeros((2, 3072), np.float32), np.zeros(3, "O"), np.uint8(3), odd(rng), [[]], [None],
                tree, {1: 2}, {"a"}, 1j, Preprocess(1, 1, ""), [np.zeros(2, np.uint8)], np.zeros((0, 3072), np.uint8),
                [True, False], bytearray(6144), np.zeros((3072, 2), np.uint8, "F"), [10**50], range(3),
            ]
        )  # fmt: skip
    if kind > 0.9:
        tree = rng.choice(([tree], None, (), tree.get("data", 1), "a", {}, _evil(rng, case.canary)))
    content = pickle.dumps(tree, protocol=rng.randrange(6))
    if rng.random() < 0.6:
        ends = spoil_bytes(rng, content[:200], 3), spoil_bytes(rng, content[-120:], 3)
        content = (
            ends[0] + content[200:-120] + ends[1] if len(content) > 400 else spoil_bytes(rng, content, 3)
        )
    return content


def cifar(case):
    rng = case.rng
    rows = rng.choice((1, 2, 3))
    if rng.random() < 0.6:
        key = rng.choice(("labels", b"labels", "fine_labels"))
        data = np.frombuffer(rng.randbytes(rows * 3072), np.uint8).reshape(rows, 3072)
        batch = {
            key: [rng.randrange(3) for _ in range(rows)],
            rng.choice(("data", b"data")): data,
            "filenames": ["a"],
        }
        meta = {"label_names": ["a", "b", "c"], "num_vis": 3072}
        names = rng.choice((("data_batch_1", "test_batch", "batches.meta"), ("train", "test", "meta")))
        made = [_pickled(case, batch), _pickled(case, batch), _pickled(case, meta)]
    else:
        before = rng.choice((1, 2))
        names = (("data_batch_1.bin", "test_batch.bin", "batches.meta.txt"), ("train.bin", "test.bin", "fine_label_names.txt"))[before - 1]  # fmt: skip
        records = [
            b"".join(bytes([rng.randrange(3)]) * before + rng.randbytes(3072) for _ in range(rows))
            for _ in "ab"
        ]
        made = [
            *records,
            rng.choice((b"a\nb\nc\n", b"a\na\n", b"", "日\n\n本\nc".encode("utf-16"), b"\xff\x00")),
        ]
        made = [spoil_bytes(rng, content, 2) if rng.random() < 0.3 else content for content in made]
    for name, content in zip(names, made):
        if rng.random() < 0.9 or name == names[-1]:
            case.file(f"data/{name}", content)
    _load(case, case.folder / "data")


_CELLS = (
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


def _columns(rng):
    """Some columns of cells, each of few kinds of values."""
    rows = rng.choice((1, 2, 5, 25, 60))
    names = rng.sample(_COLUMNS, rng.randint(1, 5)) if rng.random() < 0.9 else rng.choices(_COLUMNS, k=3)
    found = []
    for name in names:
        values = rng.sample(_CELLS, rng.choice((1, 2, 3, 10)))
        kind = rng.random()
        if kind < 0.25:
            values = [str(rng.randrange(10**6)) for _ in range(rows)]
        elif kind < 0.4:
            values = [f"{rng.gauss(0, 1):.3f}" for _ in range(rows)]
        found.append((name, [rng.choice(values) for _ in range(rows)]))
    return found


def _write(rng, lines, name, case):
    encoding = rng.choice(_ENCODINGS) if rng.random() < 0.4 else "utf-8"
    content = rng.choice(("\n", "\r\n", "\n", "\r")).join(lines).encode(encoding, "replace")
    if rng.random() < 0.5:
        content = spoil_bytes(rng, content)
    return case.file(name, _packed(rng, content))


def delimited(case):
    rng = case.rng
    delimiter = rng.choice(",,;\t| :^")
    found = _columns(rng)

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
    path = _write(rng, lines, f"data/{rng.choice(('a', 'train', 'labels'))}{suffix}", case)
    _load(case, path if rng.random() < 0.8 else path.parent)


def jsonl(case):
    rng = case.rng
    found = _columns(rng)
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
    _load(case, _write(rng, lines, "data/a.jsonl", case))


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
        lines = [_yaml(rng, {"conversations": spoil_tree(rng, turns) if rng.random() < 0.4 else turns})]
    elif kind.startswith(".json"):
        rows = [_turns(rng) if rng.random() < 0.3 else {"text": line, "label": line[:1]} for line in lines]
        lines = [json.dumps(row, default=str, skipkeys=True, ensure_ascii=rng.random() < 0.5) for row in rows]
        lines = ["[" + ",".join(lines) + "]"] if kind == ".json" else lines
    lines = [line.encode("utf-8", "replace").decode() for line in lines or [""]]
    names = rng.sample(("train", "test", "a", "en/b", "c.d"), rng.choice((1, 1, 2, 3)))
    paths = [_write(rng, lines, f"data/{name}{kind}", case) for name in names]
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


def _arrow(rng, texts):
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
            lambda: pa.array([t.encode() for t in texts]), lambda: pa.array([{"bytes": _image(rng)[0], "path": None} for _ in texts]),
            lambda: pa.array([{"bytes": None, "path": t} for t in texts], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            lambda: pa.array(few).cast(pa.decimal128(30, 3)), lambda: pa.array([[0.5, 1.5]] * rows, pa.list_(pa.float32(), 2)),
            lambda: pa.array([n if n is None else [(str(n), n)] for n in few], pa.map_(pa.string(), pa.int64())),
        ]
    )  # fmt: skip
    return kind()


def parquet(case):
    rng = case.rng
    found = dict(_columns(rng))
    table = pa.table({name: _arrow(rng, values) for name, values in found.items()})
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
    _load(case, path if rng.random() < 0.8 else path.parent)


def _objects(values):
    made = np.empty(len(values), "O")
    made[:] = values
    return made


def _array(rng):
    shape = [rng.choice((0, 1, 2, 3, 6, 12)) for _ in range(rng.randrange(6))]
    kind = rng.choice(("u1", "i8", "f4", "f8", "?", "c8", "O", "U3", "S2", "M8[s]", "u8", "f2", "V3"))
    made = np.frombuffer(rng.randbytes(int(np.prod(shape)) * max(1, np.dtype(kind).itemsize)) or b"", "u1")
    if kind in ("O", "U3", "S2"):
        return _objects([odd(rng, 0) for _ in range(int(np.prod(shape)))]).reshape(shape)
    return made.view(kind).reshape(shape) if len(made) else np.zeros(shape, kind)


def arrays(case):
    rng = case.rng
    x = rng.choice(
        (lambda: _array(rng), lambda: np.zeros((4, 8, 8), "u1"), lambda: np.ones((4, 3)), lambda: odd(rng))
    )()
    y = rng.choice(
        (lambda: _array(rng), lambda: [odd(rng, 1) for _ in range(4)], lambda: [0, 1, 0, 1], lambda: None)
    )()
    data = rng.choice((x, (x, y), {"image": x, "label": y}, [x, y], {"image": x, "other": y}, (x, y, x)))
    if isinstance(data, str):
        data = (data,)
    load(data, None, seed=0)


# --- files of tensors


def _tensors(rng):
    return {
        "weight": torch.randn(2, 3), "bias": torch.zeros(3, dtype=rng.choice((torch.float32, torch.bfloat16, torch.int64))),
        "optimizer.0.step": torch.tensor(1.0),
    }  # fmt: skip


def _spoilt_safetensors(rng, content):
    """With another header over the same tensors, or damaged as bytes."""
    if rng.random() < 0.4:
        return spoil_bytes(rng, content, 3)
    size = struct.unpack("<Q", content[:8])[0]
    header = spoil_tree(rng, json.loads(content[8 : 8 + size]))
    about = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(about, dict) and isinstance(about.get("state"), str) and rng.random() < 0.4:
        with contextlib.suppress(ValueError):
            about["state"] = json.dumps(
                spoil_tree(rng, json.loads(about["state"])), default=str, skipkeys=True
            )
    told = json.dumps(header, default=str, skipkeys=True).encode("utf-8", "replace")
    if rng.random() < 0.1:
        told = rng.choice((b"[" * 100_000, b"{", b"null", b'{"a":' * 2000, b" " * 1000))
    length = len(told) if rng.random() < 0.9 else rng.choice(NUMBERS) % 2**64
    return struct.pack("<Q", length) + told + content[8 + size :]


def checkpoints(case):
    rng = case.rng
    path = case.folder / "last.safetensors"
    state = {"step": 3, "batches": {"epoch": 0, "position": 2}, "plan": {"steps": 9}}
    checkpoint.save(path, _tensors(rng), state)
    path.write_bytes(_spoilt_safetensors(rng, path.read_bytes()))
    return tolerant(
        lambda: checkpoint.read_state(path), lambda: checkpoint.read_tensors(path, torch.device("cpu"))
    )


def weights(case):
    rng = case.rng
    file = io.BytesIO()
    inside = rng.choice(
        (_tensors(rng), {"state_dict": _tensors(rng)}, {"model": 3}, [1], {"a": [torch.ones(2)]})
    )
    if rng.random() < 0.3:
        inside = {"state_dict": _evil(rng, case.canary), "weight": torch.ones(2)}
    torch.save(inside, file, _use_new_zipfile_serialization=rng.random() < 0.6)
    content, suffix = file.getvalue(), rng.choice((".pth", ".pt"))
    kind = rng.random()
    if kind < 0.4:
        content = spoil_bytes(rng, content, 3)
    elif kind < 0.7 and content[:2] == b"PK":
        content = _repacked(case, content)
    elif kind < 0.75:
        content = rng.choice(
            (b"", b"\x80\x02.", pickle.dumps(_evil(rng, case.canary)), b"PK\x03\x04", b"\x1f\x8b", bytes(512))
        )
    read_weights(case.file(f"case{suffix}", content))


def _repacked(case, content):
    """The archive with one of its members damaged, or with a pickle that calls."""
    rng, file = case.rng, io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            member = old.read(name)
            if name == chosen:
                member = spoil_bytes(rng, member, 2)
            if name.endswith("data.pkl") and rng.random() < 0.3:
                member = pickle.dumps(_evil(rng, case.canary), protocol=2)
            new.writestr(name, member)
    return file.getvalue()


# --- finished runs


def make_runs(folder):
    """Small finished runs, of a table, of images and two of texts, that cases may damage."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.2f},{c},{'yes' if x > 0 else 'no'}" for x, c in zip(rng.normal(size=40), "ab" * 20)]
    (folder / "data.csv").write_text("\n".join(["x,c,label", *lines]))
    for i in range(16):
        path = folder / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    for name, data, backbone in (("table", "data.csv", {"name": "mlp", "widths": [4]}),
                                 ("images", "photos", {"name": "cnn", "widths": [4]})):  # fmt: skip
        stage = {"stage": "finetune", "backbone": backbone, "budget": "2 steps", "batch_size": 8}
        tree = {"name": name, "data": {"path": str(folder / data)}, "stages": [stage, {"stage": "audit"}]}
        execute(check(Recipe, tree), runs=folder / "runs")
    texts = [f"{i} a good thing" if i % 2 else f"{i} so bad a thing" for i in range(40)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "said.csv").write_text(
        "\n".join(["text,label", *(f"{t},{'bg'[i % 2]}" for i, t in enumerate(texts))])
    )
    gpt = {"stage": "pretrain", "backbone": {"name": "gpt", "width": 8, "depth": 1, "heads": 2}}
    bert = {"stage": "finetune", "backbone": {"name": "bert", "width": 8, "depth": 1, "heads": 2}}
    for name, data, tokenizer, stage in (
        ("gpt", "texts.txt", {"name": "bpe", "vocabulary": 300}, gpt), ("bert", "said.csv", "wordpiece", bert)
    ):  # fmt: skip
        data = {"path": str(folder / data), "context": 16, "tokenizer": tokenizer}
        stages = [{**stage, "budget": "2 steps", "batch_size": 8}, {"stage": "audit"}]
        execute(check(Recipe, {"name": name, "data": data, "stages": stages}), runs=folder / "runs")
    small = vit(3, 16, width=8, depth=1, heads=2, patch=8)
    small.image_mean, small.image_std, small.image_size = (0.5,) * 3, (0.5,) * 3, 16
    save_pretrained(small, folder / "checkpoint")


def _spoilt_json(rng, path):
    return json.dumps(spoil_tree(rng, json.loads(path.read_text())), default=str, skipkeys=True).encode(
        "utf-8", "replace"
    )


_FILES = ("model/config.json",) * 4 + ("model/model.safetensors", "recipe.yaml", "recipe.yaml", "environment.json",
          "summary.json", "metrics.jsonl", "audit.json")  # fmt: skip


def _spoil_run(case, folder, replaced=0.03, files=_FILES):
    """One file of a run damaged, as a person or a disk might; or a folder in its place."""
    rng = case.rng
    name = rng.choice(files)
    path = folder / name
    if path.exists():
        content = path.read_bytes()
        kind = rng.random()
        if kind < 0.1:
            path.unlink()
            if kind < replaced:
                path.mkdir()
            return
        if name.endswith(".safetensors"):
            content = _spoilt_safetensors(rng, content)
        elif name.endswith(".yaml") and kind < 0.8:
            text = _yaml(rng, spoil_tree(rng, parse_yaml(content.decode())))
            content = (
                spoil_text(rng, text, case.canary).encode("utf-8", "replace")
                if kind > 0.5
                else text.encode("utf-8", "replace")
            )
        elif name.endswith(".json") and kind < 0.8:
            content = _spoilt_json(rng, path)
        elif kind < 0.85:
            content = rng.choice(
                (b"", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"3", b'"a"', b"{}\n{]\n{}\n")
            )
        else:
            content = spoil_bytes(rng, content, 3)
        path.write_bytes(content)


def _copied(case, kind):
    folder = case.folder / "run"
    shutil.copytree(
        case.runs / "runs" / kind, folder, ignore=shutil.ignore_patterns("*.html", "examples", "data.html")
    )
    return folder


def model(case):
    """A model's folder."""
    folder = _copied(case, case.rng.choice(("table", "images"))) / "model"
    if case.rng.random() < 0.7:
        (folder / "config.json").write_bytes(_spoilt_json(case.rng, folder / "config.json"))
    else:
        path = folder / "model.safetensors"
        path.write_bytes(_spoilt_safetensors(case.rng, path.read_bytes()))
    model_folder.load(folder)


def hub(case):
    """A checkpoint's folder as from the Hugging Face Hub."""
    folder = case.folder / "checkpoint"
    shutil.copytree(case.runs / "checkpoint", folder)
    kind = case.rng.random()
    if kind < 0.6:
        about = json.loads(_spoilt_json(case.rng, folder / "config.json"))
        if kind < 0.1 and isinstance(about, dict):  # code of others, which must not be run
            about |= {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "trust_remote_code": True}
            case.file("checkpoint/evil.py", f"open({str(case.canary)!r}, 'w')")
        (folder / "config.json").write_text(json.dumps(about))
    elif kind < 0.8:
        path = folder / "preprocessor_config.json"
        path.write_bytes(_spoilt_json(case.rng, path))
    else:
        path = folder / "model.safetensors"
        path.write_bytes(_spoilt_safetensors(case.rng, path.read_bytes()))
    name = f"hf:{folder}"
    return tolerant(lambda: load_checkpoint(name, channels=3, size=16), lambda: trained_size(name))


def run_folder(case):
    """A run's folder: what it says of itself, and what its model predicts."""
    kind = case.rng.choice(("table", "images"))
    folder = _copied(case, kind)
    _spoil_run(case, folder)
    given = {"x": 0.5, "c": "a"} if kind == "table" else np.zeros((8, 8, 3), np.uint8)
    if case.rng.random() < 0.3:
        path = case.runs / ("data.csv" if kind == "table" else "photos/a/0.png")
        verb = case.rng.choice((["predict", str(folder), str(path)], ["audit", str(folder)]))
        return command(main, [*verb, "--quiet", *case.rng.choice(([], ["--json"]))])

    def use():
        run = Run(folder)
        return tolerant(run.summary, lambda: run.headline, lambda: run.history, lambda: run.recipe, lambda: run.classes,
                        lambda: run.predict(given), lambda: run.dataset())  # fmt: skip

    return use()


def resume(case):
    """A run that stopped within its first stage, damaged, and gone on with."""
    rng = case.rng
    kind = rng.choice(("table", "images"))
    folder = case.folder / "runs" / kind
    shutil.copytree(case.runs / "runs" / kind, folder)
    (folder / "report.html").unlink()
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"] = []
    (folder / "summary.json").write_text(json.dumps(summary))
    recipe = read_recipe(str(folder / "recipe.yaml"))
    _spoil_run(case, folder, replaced=0)  # what cannot be written there is another matter
    for path in sorted((folder / "checkpoints").rglob("*.safetensors")):
        if rng.random() < 0.5:
            path.write_bytes(_spoilt_safetensors(rng, path.read_bytes()))
    execute(recipe, resume=True, runs=case.folder / "runs")


@functools.cache
def _finished(path):
    return Run(path)


def predict(case):
    """Inputs to a run's model."""
    rng = case.rng
    if rng.random() < 0.5:
        run = _finished(case.runs / "runs" / "table")

        def cell():
            return rng.choice((0.5, "a", None, "b", -3, odd(rng), rng.choice(_CELLS)))

        rows = [
            {"x": cell(), "c": cell(), **({"label": cell()} if rng.random() < 0.2 else {})}
            for _ in range(rng.randint(1, 3))
        ]
        text = "\n".join(["x,c", *(f"{rng.choice(_CELLS)},{rng.choice(_CELLS)}" for _ in range(3))])
        given = rng.choice(
            (
                lambda: rows, lambda: rows[0], lambda: spoil_tree(rng, rows), lambda: odd(rng),
                lambda: str(_write(rng, text.split("\n"), "data/a.csv", case)), lambda: pa.table({"x": [1], "c": ["a"], "x ": [2]}),
                lambda: pa.table({"x": _arrow(rng, ["1", "2"]), "c": _arrow(rng, ["a", "b"])}), lambda: _array(rng),
            )
        )()  # fmt: skip
    else:
        run = _finished(case.runs / "runs" / "images")
        content, suffix = _spoilt_image(case)
        path = case.file(f"case{suffix}", content)
        given = rng.choice((content, path, str(path), [path, content], _array(rng), [_array(rng)], odd(rng), torch.tensor([1.0]),
                            case.folder, [], [None], [[path]], bytearray(content), memoryview(content)))  # fmt: skip
    return tolerant(lambda: run.predict(given), lambda: run.embed(given))


def language(case):
    """A run of texts: damaged, its tokenizer above all, or whole and asked for what is odd."""
    rng = case.rng
    kind = rng.choice(("gpt", "bert"))
    if rng.random() < 0.6:
        folder = _copied(case, kind)
        files = ("model/tokenizer.json",) * 3 + ("model/tokenizer_config.json",) * 2
        _spoil_run(
            case, folder, files=(*files, "model/config.json", "model/model.safetensors", "recipe.yaml")
        )
        run = Run(folder)
    else:
        run = _finished(case.runs / "runs" / kind)

    def words():
        return rng.choice(
            (odd(rng), "a good thing", "a " * 200, "\u2028\u202e💥", "\ud800", "", "\x00", "[MASK] <|end|>")
        )

    settings = {
        key: odd(rng)
        for key in ("most", "temperature", "top_k", "top_p", "repetition_penalty", "beams", "stop", "seed")
        if rng.random() < 0.15
    }
    settings.setdefault("most", 5)
    if isinstance(settings["most"], int) and abs(settings["most"]) > 64:
        settings["most"] = 64  # to ask for much is the user's own
    if isinstance(settings.get("beams"), int) and settings["beams"] > 8:
        settings["beams"] = 8
    given = rng.choice((words(), [words()], [words(), words()], [(words(), words())]))
    if rng.random() < 0.2:
        path = case.file("given.txt", rng.choice((b"", b"\xff\xfe", b"a\x00b", b"so bad\n\na thing")))
        verb = rng.choice((["predict", str(run.path), str(path)], ["generate", str(run.path), str(words())[:50], "--most", "5"],
                           ["audit", str(run.path), "--data", str(path)], ["embed", str(run.path)]))  # fmt: skip
        return command(main, [a.replace("\x00", "") for a in verb])
    return tolerant(
        lambda: run.generate(given, **settings), lambda: run.predict(given), lambda: run.embed(given)
    )


# --- the command line, and whole runs


def command_line(case):
    rng = case.rng
    found = _columns(rng)
    lines = [",".join(row) for row in zip(*(values for _, values in found))]
    data = str(_write(rng, [",".join(n for n, _ in found), *lines], "data/a.csv", case))
    broken = str(case.file("broken.yaml", spoil_text(rng, "name: a\n" + "stages: []\n", case.canary)))
    run = str(case.runs / "runs" / rng.choice(("table", "images")))
    photo = str(case.file("x.png", _spoilt_image(case)[0]))
    verb = rng.choice(
        [
            ["inspect", data], ["inspect", data, "--json"], ["init", data, "--force"], ["init", data, "--target", str(odd(rng, 0))],
            ["run", broken], ["run", broken, "--resume"], ["run", misspelt(rng, "quickstart")], ["predict", run, photo, data],
            ["predict", run, photo, "--json"], ["predict", str(case.folder), photo], ["audit", run, "--data", data],
            ["pretrain", str(case.folder / "nowhere")], ["finetune", data, "--budget", "0 steps"], ["doctor", str(odd(rng, 0))],
            ["doctor", "cnn", "--size", str(rng.choice((-1, 0, 10**9, "x")))], ["doctor", "cnn", "--batch-sizes", str(odd(rng, 0))],
            ["inspect", str(case.folder)], ["inspect", photo], ["inspect", "sklearn:iris"], [misspelt(rng, "inspect"), data], [],
            ["--version"], ["run", "--help"], ["inspect", "sklearn:digits", "--page", str(case.folder / "p.html")],
        ]
    )  # fmt: skip
    for _ in range(rng.choice((0, 0, 1, 2))):
        extra = rng.choice((["--set", *_assignments(case)[:1]], [f"--{misspelt(rng, 'json')}"], [str(odd(rng, 0))], ["--set"],
                            ["--set", rng.choice(("size", "data.size", "split.test", "target", "columns.x0", "reader")) + f"={odd(rng)}"]))  # fmt: skip
        verb = verb + extra
    return command(main, [a.replace("\x00", "") for a in verb])


_SMALL = {"budget": "2 steps", "checkpoint_every": "30s", "batch_size": 8, "device": "auto", "precision": "float32",
          "memory_format": "contiguous", "log_every": 1, "tensorboard": False}  # fmt: skip
_BACKBONES = {
    "table": ("mlp", "columns", "ft-transformer", "gru"),
    "images": ("cnn", "pixels", "resnet9", "small-convnext", "vit-tiny", "gru"),
}


def training(case):
    """A whole run: data of a few rows, a stage drawn from the grammar, two steps."""
    rng = case.rng
    kind = rng.choice(("table", "images"))
    data = {"path": str(case.runs / ("data.csv" if kind == "table" else "photos"))}
    name = rng.choice(("finetune", "finetune", "pretrain"))
    drawn = {
        k: v for k, v in grammar.sample(rng, STAGES[name]).items() if k not in ("from", "weights", "adapt")
    }
    kept = rng.sample(list(drawn), min(len(drawn), rng.randint(1, 5)))
    stage = {k: drawn[k] for k in kept} | _SMALL | {"stage": name, "name": "first"}
    backbone = rng.choice(_BACKBONES[kind])
    stage["backbone"] = {"name": backbone, **({"widths": [4]} if backbone in ("cnn", "mlp") else {})}
    if rng.random() < 0.3:
        stage = {**spoil_tree(rng, stage), "budget": "2 steps"}
    for holder, key in list(places(stage)):  # sizes are the user's own to choose: not the fault looked for
        if isinstance(holder[key], int) and holder[key] > 64:
            holder[key] = 64
    stages = [stage, *([{"stage": "audit"}] if name == "finetune" else [])]
    execute(check(Recipe, {"name": "a", "data": data, "stages": stages}), runs=case.folder / "runs")


# function, share of all cases, seconds a case may take
TARGETS = {
    "yaml": (yaml_text, 12, 10), "recipe": (recipe, 16, 10), "set": (assignments, 8, 10), "image": (image, 14, 10),
    "image_folder": (image_folder, 4, 20), "idx": (idx, 6, 20), "cifar": (cifar, 8, 20), "delimited": (delimited, 10, 20),
    "jsonl": (jsonl, 4, 20), "text": (text, 5, 20), "parquet": (parquet, 5, 20), "arrays": (arrays, 2, 20), "checkpoint": (checkpoints, 3, 10),
    "weights": (weights, 2, 10), "model": (model, 2, 20), "hub": (hub, 0.4, 20), "run_folder": (run_folder, 1.5, 30), "predict": (predict, 1.5, 20),
    "command_line": (command_line, 0.8, 60), "resume": (resume, 0.2, 60), "training": (training, 0.3, 60), "language": (language, 1.5, 30),
}  # fmt: skip


def counts(cases):
    """How many of all cases each target gets, at least one."""
    total = sum(share for _, share, _ in TARGETS.values())
    return {name: max(1, round(cases * share / total)) for name, (_, share, _) in TARGETS.items()}
