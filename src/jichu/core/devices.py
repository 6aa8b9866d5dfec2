"""What this machine has: devices, processes, memory, versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from .errors import UsageError
from .ranks import world_size


def device(name: str = "auto") -> torch.device:
    """The device by name; `auto` is a GPU where one works, else the processor."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world_size() > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            expected="auto, cpu" + (", cuda" if torch.cuda.is_available() else ""),
        ) from None
    return found


def memory_available(on: torch.device) -> int:
    """Free bytes on a device, within the control group's limit where one is set."""
    if on.type == "cuda":
        return torch.cuda.mem_get_info(on)[0]
    free = psutil.virtual_memory().available
    for folder, limit, used in _control_groups():
        with contextlib.suppress(OSError, ValueError):  # no such group, or no limit in it
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # what is only a copy of a file is given back when something else needs the room
            copies = sum(
                int(stat.get(f"total_{key}", stat.get(key, 0))) for key in ("active_file", "inactive_file")
            )
            room = int((folder / limit).read_text()) - int((folder / used).read_text()) + copies
            free = min(free, max(0, room))
    return free


def _control_groups(root: Path = Path("/sys/fs/cgroup")) -> Iterator[tuple[Path, str, str]]:
    """This process's control groups of memory and those above them, of the first and of the second version:
    the folder, and the names of the files with limit and use."""
    try:
        lines = Path("/proc/self/cgroup").read_text().split("\n")
    except OSError:
        return
    for _, kinds, group in (line.split(":", 2) for line in lines if line):
        if kinds not in ("", "memory"):
            continue
        files = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        )
        top = root / kinds
        folder = top / group.lstrip("/")
        while folder != top and top in folder.parents:
            yield folder, *files
            folder = folder.parent
        yield top, *files


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:  # Windows keeps it elsewhere
        return getattr(psutil.Process().memory_info(), "peak_wset", 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment() -> dict[str, Any]:
    """Versions and hardware, as written to `environment.json`."""
    libraries = ("jichu", "torch", "numpy", "scikit-learn", "pyarrow", "safetensors", "pillow")
    versions = {}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "unknown"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "ranks": world_size(),
        "versions": versions,
    }
