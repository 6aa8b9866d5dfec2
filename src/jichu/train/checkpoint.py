"""A checkpoint is one safetensors file: tensors, and in its header the rest as JSON. One file, so that
it is whole or not there.

Only the last one is kept. It is on the disk, whole, before it takes the place of the one before; what could
damage it after that (a failing disk, a hand) could damage two as well, and a second one would cost as much
room and time again. A checksum tells what has changed, which would be trained on with.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.files import dumps, replacing


def save(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able state atomically."""
    # clone: tied weights share memory, which safetensors refuses
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path, sum(t.numel() * t.element_size() for t in plain.values())) as temporary:
        said = dumps(state)
        save_file(plain, temporary, {"state": said, "checksum": checksum(plain, said)})


def checksum(tensors: dict[str, Tensor], state: str = "") -> str:
    """Of what a file holds, or of tensors alone."""
    found = zlib.crc32(state.encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint; None where there is no such file. DataError where it is damaged."""
    if not path.exists():
        return None
    with understood(path), safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["state"]))


@contextlib.contextmanager
def understood(path: Path, kind: str = "checkpoint") -> Iterator[None]:
    """DataError where a checkpoint, or another file, read in the block is damaged, or is not of the model it is to go into."""
    try:
        yield
    except (
        SafetensorError,
        OSError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        told = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        told = told if len(told) <= 300 else f"{told[:300]} …"
        raise DataError(
            f"damaged {kind}, or one of another model: {told}",
            where=path, expected="the file as it was; without it this stage starts again",
        ) from None  # fmt: skip


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """The tensors in a checkpoint."""
    with understood(path), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = file.metadata()
        if checksum(tensors, kept["state"]) != kept["checksum"]:
            raise ValueError("its contents do not have its checksum")
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{i}.{key}": value
        for i, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put named tensors back into the optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".", 2)
            state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # in the parameter's memory format, which files do not keep and fused kernels rely on
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
