"""What is fast on this machine: products, convolutions and memory, measured."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .devices import processor
from .errors import DataError
from .files import cache_folder, fingerprint, read_json, remember
from .limits import usable_cores

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_SIZES = (1024, 2048)  # of square products
_CONVOLUTIONS = ((64, 32), (256, 16))  # channels in and out, pixels of a side; 3 × 3
_ROWS = 16  # images in a convolution
_COPIES = (256, 32, 1)  # MiB
_DAY = 86_400.0
MIB = 2**20


class Rate(NamedTuple):
    """Work a second: the best run, and the median one, which is what the load there is leaves of it."""

    best: float
    median: float


def rate(run: Callable[[], Any], work: float, seconds: float, device: torch.device) -> Rate:
    """How much of `work` is done in a second by runs that take so many seconds together, at least two; the
    first one, which prepares, does not count."""
    cuda = device.type == "cuda"
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        if cuda:
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize(device)
        times.append(max(time.perf_counter() - started, 1e-9))
    return Rate(work / min(times[1:]), work / statistics.median(times[1:]))


@contextlib.contextmanager
def with_threads(number: int) -> Iterator[None]:
    """Compute with so many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_counts() -> list[int]:
    """1, 2, 4, … and as many as there are cores to use, or as torch was told to."""
    most = max(usable_cores(), torch.get_num_threads())
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


# --- the rate that training is compared with


def machine_key(*more: object) -> str:
    """16 digits that depend on the machine and its libraries, and on what else is given: what was measured
    under a key holds where the key is the same."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    capability = torch.backends.cpu.get_cpu_capability()
    return fingerprint(
        platform.node(), processor(), capability, usable_cores(), gpus, torch.__version__, *more
    )


def matmul_rate(
    precision: str = "float32",
    device: torch.device | str = "cpu",
    threads: int | None = None,
    *,
    refresh: bool = False,
) -> float:
    """FLOP/s of a large matrix product, which utilisation is measured against.

    Measured in less than half a second and kept in the cache folder by machine. Measured again after a
    day, and the larger of both kept: a rate seen once is what the machine can do, and other work at the
    time can only lower it. `refresh` forgets what was kept.
    """
    device, number = torch.device(device), threads or torch.get_num_threads()
    path = cache_folder() / "machines" / f"{machine_key()}.json"
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, DataError):  # none yet, or damaged: measured anew
        found = read_json(path)
        known = found if isinstance(found, dict) else {}
    name = f"{device.type} {precision}" + (f" {number}" if device.type == "cpu" else "")
    kept = {"flops": 0.0, "measured": -_DAY}
    with contextlib.suppress(TypeError, ValueError, KeyError):  # none, or edited by hand
        if not refresh:
            kept = {key: float(known[name][key]) for key in kept}
    if 0 <= time.time() - kept["measured"] < _DAY:
        return kept["flops"]
    with with_threads(number):
        flops = max(_quick_product(precision, device), kept["flops"])
    remember(path, {**known, name: {"flops": flops, "measured": time.time()}})
    return flops


def _quick_product(precision: str, device: torch.device) -> float:
    """The larger of two sizes where the smaller one is quick."""
    if device.type == "cuda":
        return _product(precision, 8192, 0.2, device).best
    small = _product(precision, 1024, 0.1, device).best
    return max(small, _product(precision, 2048, 0.2, device).best) if small > 2e11 else small


def _product(precision: str, size: int, seconds: float, device: torch.device) -> Rate:
    generator = torch.Generator(device).manual_seed(0)
    a, b = torch.randn(2, size, size, device=device, generator=generator).to(_PRECISIONS[precision]).unbind()
    return rate(lambda: a @ b, 2 * size**3, seconds, device)


# --- the whole examination


def measure(device: torch.device, seconds: float, advance: Callable[[str], Any]) -> dict[str, Any]:
    """Rates of a device by subject, each a list of rows: `seconds` for each measurement, of which there are
    `count(device)`; `advance` is told of each."""
    cuda = device.type == "cuda"
    precisions = [*_PRECISIONS] if cuda else [*_PRECISIONS][:2]
    found: dict[str, Any] = {"product": [], "convolution": [], "memory": []}
    for precision in precisions:
        for size in (8192,) if cuda else _SIZES:
            for number in [1] if cuda else thread_counts():
                advance(f"product, {precision}")
                with contextlib.nullcontext() if cuda else with_threads(number):
                    speed = _product(precision, size, seconds, device)
                row = {"precision": precision, "size": size, "threads": None if cuda else number}
                found["product"].append(row | _in_giga(speed))
    for precision in precisions:
        for channels, size in _CONVOLUTIONS:
            for memory_format in _FORMATS:
                advance(f"convolution, {precision}")
                row = {"precision": precision, "channels": channels, "size": size, "format": memory_format}
                found["convolution"].append(row | _convolution(row, seconds, device))
    for mib in _COPIES:
        advance("memory")
        source = torch.zeros(mib * MIB, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        copied = rate(lambda a=source, b=target: b.copy_(a), 2 * source.nbytes, seconds, device)  # type: ignore[misc]
        found["memory"].append({"what": f"copy of {mib} MiB, read and written"} | _in_giga(copied))
    advance("memory")
    found["memory"].append(_gather(seconds, device))
    if cuda:
        for pinned in (False, True):
            advance("copies to and from the GPU")
            found["memory"] += _to_and_from(device, pinned, seconds)
    return found


def count(device: torch.device) -> int:
    """How many measurements `measure` makes."""
    precisions, many = (3, 1) if device.type == "cuda" else (2, len(_SIZES) * len(thread_counts()))
    extra = 2 if device.type == "cuda" else 0
    return precisions * (many + len(_CONVOLUTIONS) * len(_FORMATS)) + len(_COPIES) + 1 + extra


def _in_giga(speed: Rate) -> dict[str, float]:
    return {"best": speed.best / 1e9, "median": speed.median / 1e9}


def _convolution(row: dict[str, Any], seconds: float, device: torch.device) -> dict[str, float]:
    """GFLOP/s of a 3 × 3 convolution, and of it with both its gradients."""
    channels, size, dtype = row["channels"], row["size"], _PRECISIONS[row["precision"]]
    rows = _ROWS * (16 if device.type == "cuda" else 1)

    def noise(*shape: int) -> torch.Tensor:
        made = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        return made.to(memory_format=_FORMATS[row["format"]]).requires_grad_()

    x, weight = noise(rows, channels, size, size), noise(channels, channels, 3, 3)
    flops = 2 * rows * channels**2 * 9 * size**2
    gradient = torch.ones_like(x)

    def forward() -> None:
        with torch.no_grad():
            F.conv2d(x, weight, padding=1)

    def both() -> None:
        torch.autograd.grad(F.conv2d(x, weight, padding=1), [x, weight], gradient)

    return {
        "forward": rate(forward, flops, seconds, device).best / 1e9,
        "both": rate(both, 3 * flops, seconds, device).best / 1e9,
    }


def _gather(seconds: float, device: torch.device) -> dict[str, Any]:
    """Rows of 3 × 32 × 32 bytes from anywhere, as batches are made."""
    rows = torch.zeros(128 * MIB // 3072, 3072, dtype=torch.uint8, device=device)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).to(device).split(256)
    turn = iter(range(10**9))
    speed = rate(lambda: rows[order[next(turn) % (len(order) - 1)]], 256 * 3072, seconds, device)
    return {"what": "gather of 256 rows of 3,072 bytes"} | _in_giga(speed)


def _to_and_from(device: torch.device, pinned: bool, seconds: float) -> list[dict[str, Any]]:
    here = torch.zeros(64 * MIB, dtype=torch.uint8, pin_memory=pinned)
    there = here.to(device)
    how = "pinned" if pinned else "plain"
    to = rate(lambda: there.copy_(here, non_blocking=True), here.nbytes, seconds, device)
    back = rate(lambda: here.copy_(there, non_blocking=True), here.nbytes, seconds, device)
    return [
        {"what": f"to the GPU, {how} memory"} | _in_giga(to),
        {"what": f"from the GPU, {how} memory"} | _in_giga(back),
    ]


def load_share() -> float:
    """How many processes wanted a core, for each core there is, in the last minute."""
    return os.getloadavg()[0] / usable_cores() if hasattr(os, "getloadavg") else 0.0


def observations(found: dict[str, Any]) -> list[str]:
    """What the rates of a processor say about how to train on it."""
    product = found["product"]
    most = max(r["threads"] for r in product)

    def best(precision: str, number: int, of: str = "best") -> float:
        return max(r[of] for r in product if r["precision"] == precision and r["threads"] == number)

    said = []
    ratio = best("bfloat16", most) / best("float32", most)
    if ratio > 1.1:
        said.append(
            f"bfloat16 is {ratio:.1f}× float32 for large products; precision: auto measures it on your model"
        )
    else:
        said.append(f"bfloat16 brings nothing here ({ratio:.2f}× float32): the processor has no units for it")
    if most > 1 and (gain := best("float32", most, "median") / best("float32", 1, "median")) < 1.2:
        said.append(
            f"{most} threads do {gain:.2f} times the work of one: the cores are busy; OMP_NUM_THREADS=1"
        )
    rows = [r for r in found["convolution"] if r["precision"] == "bfloat16"]
    gains = [
        b["both"] / a["both"]
        for a in rows for b in rows
        if (a["format"], b["format"]) == ("contiguous", "channels_last") and a["size"] == b["size"]
    ]  # fmt: skip
    if gains and max(gains) > 1.2:
        said.append(
            f"channels_last makes bfloat16 convolutions up to {max(gains):.1f}× as fast; memory_format: auto measures it"
        )
    return said
