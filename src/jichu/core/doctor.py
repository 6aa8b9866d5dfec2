"""What this machine has, what is fast on it, and what would break or slow a run."""

from __future__ import annotations

import os
import shutil
import time
from importlib.util import find_spec
from typing import Any

import torch

from .devices import environment
from .files import cache_folder

_GIB = 2**30


def matmul_gflops(dtype: torch.dtype, threads: int, size: int = 1024, seconds: float = 0.3) -> float:
    """The best rate of a square matrix product, in GFLOP/s, within some time."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.randn(2, size, size).to(dtype).unbind()
        best, until = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            a @ b
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
        return best
    finally:
        torch.set_num_threads(before)


def examine() -> dict[str, Any]:
    """Measure and advise."""
    threads = torch.get_num_threads()
    rates = {
        f"{name}, {n} thread{'s' if n > 1 else ''}": matmul_gflops(dtype, n)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        for n in sorted({1, threads})
    }
    return {"environment": environment(), "gflops": rates, "advice": _advice(rates, threads)}


def _advice(rates: dict[str, float], threads: int) -> list[str]:
    float32, bfloat16 = (max(v for k, v in rates.items() if k.startswith(n)) for n in ("float32", "bfloat16"))
    advice = [
        f"bfloat16 is {bfloat16 / float32:.1f}× float32 for large products; precision: auto measures it on your model"
    ]
    one = rates["float32, 1 thread"]
    if threads > 1 and float32 < 1.2 * one:
        advice.append(f"{threads} threads are no faster than one: the machine is busy; try OMP_NUM_THREADS=1")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > (os.cpu_count() or 1):
        advice.append(f"the load is {load:.1f} on {os.cpu_count()} cores: timings will not hold")
    cache = cache_folder()
    existing = next(p for p in (cache, *cache.parents) if p.exists())
    free = shutil.disk_usage(existing).free / _GIB
    if free < 2:
        advice.append(f"{free:.1f} GiB left where decoded data go ({cache}); set JICHU_CACHE to another disk")
    if find_spec("torchvision"):
        try:
            __import__("torchvision")
        except Exception as error:  # whatever it raises is the finding
            advice.append(
                f"torchvision is installed but broken ({type(error).__name__}: {error}); libraries that import it will fail: uninstall it"
            )
    if not torch.cuda.is_available() and torch.version.cuda:
        advice.append("torch is built for CUDA and finds no GPU: the driver may be missing")
    return advice
