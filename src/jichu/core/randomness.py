"""Seeded randomness without global state.

Two kinds: a `torch.Generator` for what belongs to a whole step, and numbers that depend only
on (keys, row), so that a row's augmentation is the same in whatever batch, micro-batch or rank
the row happens to be.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def derive(*keys: object) -> int:
    """A 63-bit seed that depends on every key."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*keys: object) -> torch.Generator:
    """A CPU generator seeded by the keys."""
    return torch.Generator().manual_seed(derive(*keys))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (x >> bits) & (_MASK >> bits)


def row_uniform(rows: Tensor, n: int, *keys: object) -> Tensor:
    """Uniform numbers in [0, 1), [B, n] float32, each a function of (keys, row, column) alone.

    The mixing is SplitMix64's finaliser (Steele, Lea and Flood, 2014) on a counter.
    """
    column = torch.arange(n, device=rows.device)
    x = rows.to(torch.int64)[:, None] * _signed(0x9E3779B97F4A7C15) + derive(*keys)
    x = x ^ (column * _signed(0xD1B54A32D192ED03))
    for _ in range(2):  # once leaves neighbouring counters slightly correlated
        x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
        x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
        x = x ^ _shift(x, 31)
    return _shift(x, 40).to(torch.float32) / (1 << 24)


@contextlib.contextmanager
def guarded(device: torch.device) -> Iterator[None]:
    """Whatever is seeded or drawn inside, the process's own generators are left as found."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed_step(device: torch.device, *keys: object) -> None:
    """Seed what draws from the process's generators (dropout) as a function of the keys."""
    seed = derive(*keys)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def random_state(device: torch.device) -> list[Tensor]:
    """Where the process's generators are."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Put them back to where they were."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
