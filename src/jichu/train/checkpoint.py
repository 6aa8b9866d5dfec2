"""A checkpoint is one safetensors file: tensors, and in its header the rest as JSON. One file, so that
it is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jichu.core.errors import DataError
from jichu.core.files import dumps, replacing

REMEDY = "delete it to start this stage again"
_DAMAGED = (SafetensorError, OSError, ValueError, RecursionError)  # not one of ours, or not whole


def save(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able state atomically."""
    # clone: tied weights share memory, which safetensors refuses
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, {"state": dumps(state)})


def read_state(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint; None where there is no such file. DataError where it is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
        if not isinstance(state, dict):
            raise ValueError(f"its state is a {type(state).__name__}")
        return state
    except (*_DAMAGED, KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """The tensors in a checkpoint."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"damaged checkpoint: {error}", where=path, expected=REMEDY)


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
