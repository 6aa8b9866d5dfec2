"""Whether a step fits into memory: predicted before the first one, checked by a child process where it is
near, and what is done where it does not fit."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from jichu.core.devices import memory_available
from jichu.core.errors import UsageError
from jichu.core.limits import PROC
from jichu.core.ranks import world_size
from jichu.models.cost import kept_bytes
from jichu.objectives.base import Objective

MIB = 2**20
_NEAR = 0.25  # share of the free memory above which a prediction is worth a probe
_PROBED = 128 * MIB  # what the larger step of a probe should keep: far more than the noise of measuring
_WASTE = 1.1  # what the allocator and more threads than the probe's one may take beyond what is predicted
_SECONDS = 60  # after which a probe is given up
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|bad_alloc", re.I)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt, in GNU's C library
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_GIVEN_BACK = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**18, _TRIM_THRESHOLD: 2**20}
T = TypeVar("T")


class Memory(NamedTuple):
    """Bytes that a training step needs, and that are free."""

    parameters: int  # with gradients and optimizer state
    fixed: int  # whatever the number of rows: of the backward pass, and the workspaces of a probed step
    per_row: int
    rows: int  # of the largest micro-batch
    available: int
    probed: bool = False  # measured by a child process, and not added up from the tensors kept

    @property
    def activations(self) -> int:
        return self.fixed + self.per_row * self.rows

    @property
    def needed(self) -> int:
        return self.parameters + self.activations

    @property
    def tight(self) -> bool:
        """Whether there is no room for as much again."""
        return 2 * self.needed > self.available

    @property
    def fits(self) -> int:
        """Rows for which there is room."""
        room = int(self.available / _WASTE) - self.parameters - self.fixed
        if room < 0:
            return 0
        return room // self.per_row if self.per_row else self.rows


# --- predicted


def memory(
    forward: Callable[[int], Any], rows: int, module: nn.Module, slots: int, device: torch.device
) -> Memory:
    """Predict a step's memory from the tensors that autograd keeps for two numbers of rows.

    forward(n) runs the loss on n rows; `slots` is the number of values the optimizer keeps for each
    parameter.
    """
    least = fewest_rows(module)
    few = [min(rows, n) for n in (least, least + 1)]
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    kept = [kept_bytes(forward, n, but=module.parameters()) for n in few]
    per_row = max(0, kept[1] - kept[0])
    fixed = kept[1] - per_row * few[1]
    weights = sum(size * (2 + slots if trained else 1) for size, trained in sizes)
    return Memory(weights, fixed, per_row, rows, memory_available(device))


def fewest_rows(module: nn.Module) -> int:
    """The smallest micro-batch: neither batch statistics nor comparisons can be had of one row."""
    return 2 if any(map(_compares, module.modules())) else 1


def _compares(module: nn.Module) -> bool:
    if isinstance(module, Objective):
        return not module.independent
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def predict(
    forward: Callable[[int], Tensor],
    fresh_step: Callable[[], Callable[[int], Any]],
    rows: int,
    module: nn.Module,
    slots: int,
    device: torch.device,
) -> Memory:
    """`memory`; where that is near to what is free on a processor, a child process tries it.

    `fresh_step()` gives a function that takes one whole step, optimizer included, on so many rows.
    """
    found = memory(forward, rows, module, slots, device)
    if device.type != "cpu" or found.needed < _NEAR * found.available:
        return found
    _trim()
    found = found._replace(available=memory_available(device))
    return probe(found, fresh_step, module) or found


# --- measured


def probe(found: Memory, fresh_step: Callable[[], Callable[[int], Any]], module: nn.Module) -> Memory | None:
    """The prediction made again from the peaks of two small steps in a child process, which count what the
    tensors kept do not: workspaces, gradients on their way, optimizer state, what the allocator cannot use.
    None where that cannot be measured.

    The child is forked, for only so does it have the model, whatever that is made of, at no cost and without
    pickling; it uses one thread (the threads of OpenMP do not survive a fork, and one needs none of them;
    torch's DataLoader does the same) and no GPU. An alarm ends it should it hang all the same on a lock that
    another thread held, and the system, where memory runs out, takes it before its parent.
    """
    if not sys.platform.startswith("linux") or torch.cuda.is_initialized():
        return None
    least = fewest_rows(module)
    large = min(found.rows, max(least + 1, _PROBED // max(1, found.per_row)))
    small = max(min(least, large), large // 2)

    def measure() -> list[int]:
        torch.set_num_threads(1)
        keep_freed(False)
        fresh_step()(small)  # what is loaded and prepared at the first use is not counted
        module.zero_grad(set_to_none=True)
        before = resident("VmRSS", trimmed=True)
        step = fresh_step()
        step(small)  # makes the optimizer's state
        peaks = []
        for rows in (small, large):
            resident("VmRSS", trimmed=True)
            (PROC / "self" / "clear_refs").write_text("5")  # begins the peak anew
            step(rows)
            peaks.append(resident("VmHWM") - before)
        return peaks

    peaks = in_child(measure, _SECONDS)
    if peaks is None:
        return None
    per_row = max(0, peaks[1] - peaks[0]) // max(1, large - small)
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    fixed = max(0, peaks[1] - per_row * large - (found.parameters - weights))  # the weights were there before
    return found._replace(fixed=fixed, per_row=per_row, probed=True)


def resident(what: str, trimmed: bool = False) -> int:
    """VmRSS, this process's resident bytes, or VmHWM, their peak; after giving back what is free."""
    if trimmed:
        _trim()
    status = Path(PROC, "self", "status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def _trim() -> None:
    """Give freed memory back to the system."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def in_child(work: Callable[[], Any], seconds: int) -> Any:
    """What `work` gives (as JSON has it) when a forked child does it; None where the child fails, is killed
    or does not end in time."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: see `probe`
        child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(seconds)
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            with contextlib.suppress(OSError):
                (PROC / "self" / "oom_score_adj").write_text("1000")
            os.write(writing, json.dumps(_in_thread(work)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return json.loads(said) if said else None


def _in_thread(work: Callable[[], T]) -> T:
    """What `work` gives in a new thread, which has a heap of its own: the holes that earlier work has left in
    the process's heap would be filled first, and what fills them is not given back, so that a peak is too high."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


# --- what is done about it


def keep_freed(keep: bool) -> bool:
    """Whether the process keeps freed memory of the processor for the next step, or gives it back. Kept, it
    need not be mapped and cleared anew, which else takes up to half of a step, and the peak is about half
    as large again; given back, it is what is predicted. False where the C library has no such choice."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        settings = _KEPT if keep else _GIVEN_BACK
        return all(mallopt(name, value) for name, value in settings.items())
    return False


def micro_batches(found: Memory, rows: int, asked: int, module: nn.Module, divisible: bool) -> int:
    """Into how many micro-batches a batch has to be cut for each to fit: as many as asked for, doubled until
    they do. UsageError where not even the smallest fits, or where the rows of a batch must stay together."""
    parts, least = asked, fewest_rows(module)
    while -(-rows // parts) > found.fits:
        parts *= 2
        if not divisible or rows // parts < least:
            raise _too_large(found, least)
    return parts


def _too_large(found: Memory, least: int) -> UsageError:
    cure: object = "a smaller model: its parameters alone do not fit"
    if found.fits >= least:
        cure = f"batch_size: {found.fits}"
    elif found.parameters + found.fixed <= found.available:
        cure = f"smaller inputs or a smaller model: not even {least} rows fit"
    return UsageError(
        f"a step needs about {found.needed // MIB:,} MiB and {found.available // MIB:,} MiB are free:"
        f" {found.parameters // MIB:,} for the parameters, {found.activations // MIB:,} for {found.rows} rows",
        expected=cure,
    )


def halving(
    step: Callable[[int], T], parts: int, rows: int, module: nn.Module, divisible: bool,
    undo: Callable[[], Any] = lambda: None,
) -> tuple[T, int]:  # fmt: skip
    """`step(parts)` on `rows` rows in that many micro-batches, and again with twice as many each time it runs
    out of memory. Gives its result and the number that went through.

    `undo()` takes back what a step cut short has changed. UsageError where the rows cannot be cut further,
    must stay together, or belong to one of several processes, whose others wait for it.
    """
    while True:
        try:
            return step(parts), parts
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
        undo()  # not above, where the traceback keeps the tensors of the step
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if not divisible or world_size() > 1 or rows // (2 * parts) < fewest_rows(module):
            cure = (
                f"batch_size: {max(1, rows * world_size() // 2)}"
                if not divisible
                else f"accumulate: {2 * parts}"
            )
            alone = rows // (2 * parts) < fewest_rows(module)
            raise UsageError(
                f"{rows} rows in {parts} micro-batches do not fit into memory: {said}",
                expected="a smaller model, or smaller inputs" if alone else cure,
            )
        parts *= 2


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of a GPU, or of a process that may have no more."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or bool(_OUT_OF_MEMORY.search(str(error)))


class Buffers:
    """The buffers of a module as they were before a step (batch statistics, queues, teachers)."""

    def __init__(self, module: nn.Module):
        self._owners = [
            (m._buffers, n) for m in module.modules() for n, b in m._buffers.items() if b is not None
        ]
        self._those: list[Tensor] = []
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are now."""
        now = [cast(Tensor, buffers[name]) for buffers, name in self._owners]
        if len(self._those) != len(now) or any(a is not b for a, b in zip(now, self._those, strict=True)):
            self._those, self._kept = now, [b.detach().clone() for b in now]
        elif now:
            torch._foreach_copy_(self._kept, now)

    @torch.no_grad()
    def restore(self) -> None:
        """Make them what they were: the same tensors, also where a step put others in their place."""
        for (buffers, name), buffer, kept in zip(self._owners, self._those, self._kept, strict=True):
            buffers[name] = buffer
            buffer.copy_(kept)
