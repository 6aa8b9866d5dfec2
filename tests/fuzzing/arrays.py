"""Arrays: IDX files, pickles in the manner of CIFAR, and what is in memory."""

import os
import pickle
import struct

import numpy as np

from jichu.data.decode import Preprocess
from jichu.data.load import load

from .loading import loaded, packed
from .mutations import odd, spoil_bytes


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
            case.file(f"data/{part}-{name}-ubyte{rng.choice(('', '.gz'))}", packed(rng, content))
    if rng.random() < 0.2:
        return loaded(case, next((case.folder / "data").iterdir()))
    return loaded(case, case.folder / "data")


class _Runs:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil_call(rng, canary):
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
        tree[rng.choice(list(tree))] = evil_call(rng, case.canary)
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
        tree = rng.choice(([tree], None, (), tree.get("data", 1), "a", {}, evil_call(rng, case.canary)))
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
    loaded(case, case.folder / "data")


def _objects(values):
    made = np.empty(len(values), "O")
    made[:] = values
    return made


def drawn_array(rng):
    shape = [rng.choice((0, 1, 2, 3, 6, 12)) for _ in range(rng.randrange(6))]
    kind = rng.choice(("u1", "i8", "f4", "f8", "?", "c8", "O", "U3", "S2", "M8[s]", "u8", "f2", "V3"))
    made = np.frombuffer(rng.randbytes(int(np.prod(shape)) * max(1, np.dtype(kind).itemsize)) or b"", "u1")
    if kind in ("O", "U3", "S2"):
        return _objects([odd(rng, 0) for _ in range(int(np.prod(shape)))]).reshape(shape)
    return made.view(kind).reshape(shape) if len(made) else np.zeros(shape, kind)


def arrays(case):
    rng = case.rng
    x = rng.choice(
        (
            lambda: drawn_array(rng),
            lambda: np.zeros((4, 8, 8), "u1"),
            lambda: np.ones((4, 3)),
            lambda: odd(rng),
        )
    )()
    y = rng.choice(
        (
            lambda: drawn_array(rng),
            lambda: [odd(rng, 1) for _ in range(4)],
            lambda: [0, 1, 0, 1],
            lambda: None,
        )
    )()
    data = rng.choice((x, (x, y), {"image": x, "label": y}, [x, y], {"image": x, "other": y}, (x, y, x)))
    if isinstance(data, str):
        data = (data,)
    load(data, None, seed=0)
