"""Files of tensors: checkpoints and weights."""

import contextlib
import io
import json
import pickle
import struct
import zipfile

import torch

from jichu.models.weights import read_tensors as read_weights
from jichu.train import checkpoint

from .arrays import evil_call
from .cases import tolerant
from .mutations import NUMBERS, spoil_bytes, spoil_tree


def _tensors(rng):
    return {
        "weight": torch.randn(2, 3), "bias": torch.zeros(3, dtype=rng.choice((torch.float32, torch.bfloat16, torch.int64))),
        "optimizer.0.step": torch.tensor(1.0),
    }  # fmt: skip


def spoilt_safetensors(rng, content):
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
    path.write_bytes(spoilt_safetensors(rng, path.read_bytes()))
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
        inside = {"state_dict": evil_call(rng, case.canary), "weight": torch.ones(2)}
    torch.save(inside, file, _use_new_zipfile_serialization=rng.random() < 0.6)
    content, suffix = file.getvalue(), rng.choice((".pth", ".pt"))
    kind = rng.random()
    if kind < 0.4:
        content = spoil_bytes(rng, content, 3)
    elif kind < 0.7 and content[:2] == b"PK":
        content = _repacked(case, content)
    elif kind < 0.75:
        content = rng.choice(
            (
                b"",
                b"\x80\x02.",
                pickle.dumps(evil_call(rng, case.canary)),
                b"PK\x03\x04",
                b"\x1f\x8b",
                bytes(512),
            )
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
                member = pickle.dumps(evil_call(rng, case.canary), protocol=2)
            new.writestr(name, member)
    return file.getvalue()
