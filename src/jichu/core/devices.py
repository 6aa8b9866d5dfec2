"""What this machine has: devices, processes, memory, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

import psutil
import torch

from .errors import UsageError
from .limits import PROC, free_memory, read_of_system
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
    """Free bytes on a device."""
    return torch.cuda.mem_get_info(on)[0] if on.type == "cuda" else free_memory()


def processor() -> str:
    """The processor's own name."""
    for line in read_of_system(PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    try:
        import resource
    except ImportError:  # Windows keeps it elsewhere
        return getattr(psutil.Process().memory_info(), "peak_wset", 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def preemptions() -> int:
    """How often other work has taken the processor from the first thread; 0 where the system does not say."""
    return int(psutil.Process().num_ctx_switches().involuntary)


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
