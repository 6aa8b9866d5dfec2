"""What the system lets this process have: memory and cores, within the limits of control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # what version 1 says for no limit is a number near 2^63


def free_memory() -> int:
    """Free bytes, within the limits of control groups and of the process; each of the processes that train on this machine
    gets an equal part."""
    free = psutil.virtual_memory().available
    for folder in control_groups("memory"):
        limit, used = memory_limit(folder), _first_number(folder, "memory.current", "memory.usage_in_bytes")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used + _reclaimable(folder)))
    if (limit := _address_space()) is not None:
        free = min(free, max(0, limit - psutil.Process().memory_info().vms))
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _address_space() -> int | None:
    """What `ulimit -v` allows this process, in bytes, or None where it allows all."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def control_groups(controller: str) -> list[Path]:
    """The folders in which Linux keeps this process's limits of `memory` or `cpu`, its own first and then
    those around it, of either version of control groups; [] where there are none."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        root = (
            CGROUP
            if number == "0"
            else next((CGROUP / n for n in (controllers, controller) if (CGROUP / n).exists()), None)
        )
        if root is None or (number != "0" and controller not in names):
            continue
        # in a container the path may be the host's, which is not to be seen from inside: then the root is ours
        inside = Path(path.lstrip("/"))
        folders = [root / inside, *(root / p for p in inside.parents)]
        found += [f for f in dict.fromkeys(folders) if f.exists()]
    return found


def memory_limit(folder: Path) -> int | None:
    """A control group's limit in bytes, or None where it has none."""
    limit = _first_number(folder, "memory.max", "memory.limit_in_bytes")
    return None if limit is None or limit >= _UNLIMITED else limit


def cpu_quota() -> float | None:
    """How many cores' time the control groups grant this process, or None where they do not limit it."""
    shares = []
    for folder in control_groups("cpu"):
        words = read_of_system(folder / "cpu.max").split()
        quota, period = (
            words
            if len(words) == 2
            else (read_of_system(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
        )
        if quota.isdigit() and period.isdigit():
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def usable_cores() -> int:
    """Cores that this process may run on, at the same time and all the time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(cpu_quota() or cores)))


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the system keeps in memory as long as nobody needs it."""
    words = read_of_system(folder / "memory.stat").split()
    counts = dict(zip(words[::2], words[1::2], strict=False))
    kinds = ("active_file", "inactive_file")  # also what is mapped, such as decoded data larger than memory
    return sum(int(counts.get(f"total_{kind}") or counts.get(kind) or 0) for kind in kinds)


def _first_number(folder: Path, *names: str) -> int | None:
    texts = (read_of_system(folder / name) for name in names)
    return next((int(text) for text in texts if text.isdigit()), None)


def read_of_system(path: Path) -> str:
    """A file of the system's, or nothing where there is none or it may not be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
