"""What would slow or break a run on this machine, and what to do about it.

`look()` collects the facts; `findings(facts)` judges them, and reads nothing else, so that every judgement
can be tried on facts that are made up.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch

from .devices import memory_available
from .files import cache_folder
from .limits import PROC, control_groups, cpu_quota, memory_limit

SYS = Path("/sys")
_GIB, _MIB = 2**30, 2**20
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # of PCI: the maker, and the class of displays and 3D controllers
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "lustre", "ceph", "gluster", "beegfs", "gpfs", "afs")  # fmt: skip
_FREE = 2 * _GIB  # of a disk
_SLOW_DISK = 40 * _MIB  # a second
_FILES = 1024
_SHARED = 64 * _MIB  # what containers get where nobody asked for more
_BROKEN = ("torchvision", "torchaudio", "torchtext")  # built for one version of torch each
_BRINGS = {
    "transformers": "backbones and weights by hf: names, and vit (pip install 'jichu[transformers]')",
    "tensorboard": "tensorboard: true (pip install 'jichu[tensorboard]')",
    "mlflow": "mlflow: true (pip install 'jichu[mlflow]')",
    "wandb": "wandb: true (pip install 'jichu[wandb]')",
    "simplejpeg": "JPEG files decoded 2 to 15 times as fast (pip install simplejpeg)",
}
_SLOWING = {
    "CUDA_LAUNCH_BLOCKING": "makes the processor wait for each operation of the GPU",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "asks the driver for memory in each operation",
    "ATEN_CPU_CAPABILITY": "keeps torch from the processor's own instructions",
    "ONEDNN_MAX_CPU_ISA": "keeps products and convolutions from the processor's own instructions",
    "DNNL_MAX_CPU_ISA": "keeps products and convolutions from the processor's own instructions",
    "PYTHONMALLOC": "changes Python's allocator",
    "PYTHONDEVMODE": "makes Python check much and slowly",
    "OMP_PROC_BIND": "ties threads to cores: two runs then share the same ones",
    "GOMP_CPU_AFFINITY": "ties threads to cores: two runs then share the same ones",
    "KMP_AFFINITY": "ties threads to cores: two runs then share the same ones",
}


class Finding(NamedTuple):
    """Something wrong, how bad it is, and the remedy."""

    subject: str
    severity: Literal["breaks", "slows", "note"]
    what: str
    remedy: str


@dataclass(frozen=True)
class Disk:
    """Where something is written."""

    path: str
    free: int
    kind: str = "ext4"  # of file system
    writable: bool = True
    bytes_per_second: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a machine; the defaults are a healthy one."""

    cores: int = 2  # that this process may run on
    quota: float | None = None  # cores' time granted by control groups
    threads: int = 2
    load: float = 0.0
    busy: list[tuple[str, float]] = field(
        default_factory=list
    )  # other processes, and how many cores each uses
    steal: float = 0.0  # share of the time that other virtual machines take
    variables: dict[str, str] = field(default_factory=dict)  # of the environment
    memory: int = 16 * _GIB
    memory_free: int = 12 * _GIB
    memory_limit: int | None = None
    swap_used: int = 0
    disks: dict[str, Disk] = field(default_factory=dict)
    shared: int | None = None  # free in /dev/shm
    files: int = 4096  # that may be open
    clock: float = 2e9
    newest: float = 0.0  # when the newest library was written
    outside: list[str] = field(default_factory=list)  # requirements that are not met
    broken: dict[str, str] = field(default_factory=dict)  # library: what its import says
    missing: list[str] = field(default_factory=list)
    gpu_seen: bool = False  # on the bus
    gpu_driver: bool = False
    cuda_built: bool = False
    cuda_works: bool = False
    governor: str = ""
    frequency_driver: str = ""
    runtimes: list[str] = field(default_factory=list)  # of OpenMP, loaded in this process
    denormal: float = 1.0  # how much slower a sum of the smallest numbers is


# --- judging


def findings(f: Facts) -> list[Finding]:
    """What is wrong, the worst first."""
    found = [*_processor(f), *_memory(f), *_disks(f), *_gpu(f), *_libraries(f), *_system(f)]
    return sorted(found, key=lambda finding: ("breaks", "slows", "note").index(finding.severity))


def _processor(f: Facts) -> list[Finding]:
    found = []
    granted = min(f.cores, f.quota or f.cores)
    if f.threads > max(1, granted):
        said = f"{f.threads} threads on {granted:g} cores"
        if f.quota is not None and f.quota < f.cores:
            said += f" (a control group grants {f.quota:g} of {f.cores})"
        found.append(Finding("processor", "slows", said, f"OMP_NUM_THREADS={max(1, int(granted))}"))
    others = sum(cores for _, cores in f.busy)
    if f.load > f.cores + 0.5 or others > 0.5:
        who = ", ".join(f"{name} ({cores:.1f} cores)" for name, cores in f.busy[:3])
        left = max(1, round(f.cores - others))
        found.append(Finding(
            "processor", "slows", f"a load of {f.load:.1f} on {f.cores} cores" + (f": {who}" if who else ""),
            f"wait for the others, or OMP_NUM_THREADS={left}; timings will not hold",
        ))  # fmt: skip
    if f.steal > 0.05:
        found.append(Finding("processor", "slows", f"other virtual machines take {f.steal:.0%} of the time", "another host, or reserved cores"))  # fmt: skip
    if f.governor in ("powersave", "conservative") and f.frequency_driver not in (
        "intel_pstate",
        "amd-pstate-epp",
    ):
        found.append(Finding("processor", "slows", f"the frequency governor is {f.governor}", "cpupower frequency-set -g performance"))  # fmt: skip
    for name, does in _SLOWING.items():
        if f.variables.get(name, "") not in ("", "0", "false"):
            found.append(Finding("processor", "slows", f"{name}={f.variables[name]} {does}", f"unset {name}"))
    if len(f.runtimes) > 1:
        found.append(Finding("processor", "slows", f"two OpenMP runtimes are loaded ({', '.join(f.runtimes)}): each has its own threads, and a fork may hang", "install all libraries from one place (pip or conda)"))  # fmt: skip
    if f.denormal > 10:
        found.append(Finding("processor", "note", f"numbers below 1e-38 are {f.denormal:.0f} times as slow as others", "torch.set_flush_denormal(True) where activations die out"))  # fmt: skip
    return found


def _memory(f: Facts) -> list[Finding]:
    found = []
    if f.memory_free < 2 * _GIB:
        found.append(Finding("memory", "breaks" if f.memory_free < _GIB // 2 else "slows", f"{f.memory_free / _GIB:.1f} GiB are free", "end other programs; a smaller batch_size, or accumulate"))  # fmt: skip
    if f.memory_limit is not None and f.memory_limit < f.memory:
        found.append(Finding("memory", "note", f"a control group limits memory to {f.memory_limit / _GIB:.1f} of {f.memory / _GIB:.1f} GiB; what needs more is killed", "docker run --memory, or the job's request; batches are cut to fit"))  # fmt: skip
    if f.swap_used > 0.05 * f.memory:
        found.append(Finding("memory", "slows", f"{f.swap_used / _GIB:.1f} GiB are swapped out", "end other programs, or a smaller batch_size"))  # fmt: skip
    if f.shared is not None and f.shared < _SHARED:
        found.append(Finding("memory", "breaks", f"{f.shared / _MIB:.0f} MiB are free in /dev/shm, through which processes exchange tensors", "docker run --shm-size=1g"))  # fmt: skip
    return found


def _disks(f: Facts) -> list[Finding]:
    cures = {"cache": "set JICHU_CACHE to another disk", "runs": "start in a folder on another disk", "temporary": "set TMPDIR to another disk"}  # fmt: skip
    found = []
    for use, disk in f.disks.items():
        cure = cures.get(use, "another disk")
        if not disk.writable:
            found.append(Finding("disk", "breaks", f"{use}: {disk.path} cannot be written to", cure))
            continue
        if disk.free < _FREE:
            found.append(Finding("disk", "breaks" if disk.free < _GIB // 4 else "slows", f"{use}: {disk.free / _GIB:.1f} GiB are left at {disk.path}", f"make room, or {cure}"))  # fmt: skip
        if disk.kind.startswith(_NETWORK):
            found.append(Finding("disk", "slows", f"{use}: {disk.path} is on a network ({disk.kind})", cure))
        elif disk.bytes_per_second is not None and disk.bytes_per_second < _SLOW_DISK:
            found.append(Finding("disk", "slows", f"{use}: {disk.path} takes {disk.bytes_per_second / _MIB:.0f} MiB a second", cure))  # fmt: skip
    return found


def _gpu(f: Facts) -> list[Finding]:
    if f.cuda_works or not (f.gpu_seen or f.gpu_driver):
        return []
    if f.variables.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return [Finding("GPU", "note", "CUDA_VISIBLE_DEVICES hides the GPU", "unset CUDA_VISIBLE_DEVICES")]
    if not f.gpu_driver:
        return [Finding("GPU", "slows", "there is a GPU and no driver for it", "install NVIDIA's driver; in a container: docker run --gpus all")]  # fmt: skip
    if not f.cuda_built:
        return [Finding("GPU", "slows", "there is a GPU with its driver, and torch is built without CUDA", "pip install torch from https://pytorch.org/get-started")]  # fmt: skip
    return [Finding("GPU", "slows", "torch cannot use the GPU: its driver is probably older than torch's CUDA", "a newer driver, or a torch for the CUDA that nvidia-smi shows")]  # fmt: skip


def _libraries(f: Facts) -> list[Finding]:
    found = [
        Finding("libraries", "breaks", f"{name} is installed and cannot be imported: {said}", f"pip uninstall {name}, or the version made for torch {torch.__version__}")
        for name, said in f.broken.items()
    ]  # fmt: skip
    found += [Finding("libraries", "breaks", said, "pip install --upgrade jichu") for said in f.outside]
    return found + [
        Finding("libraries", "note", f"{name} is not installed", f"it brings {_BRINGS[name]}") for name in f.missing
    ]  # fmt: skip


def _system(f: Facts) -> list[Finding]:
    found = []
    if f.files < _FILES:
        found.append(Finding("system", "breaks" if f.files < 256 else "slows", f"{f.files} files may be open at a time", f"ulimit -n {4 * _FILES}"))  # fmt: skip
    if f.clock < f.newest:
        days = (f.newest - f.clock) / 86_400
        found.append(Finding("system", "note", f"the clock is at least {days:.1f} days slow: libraries are from the future", "set the clock; certificates fail, and times in logs are wrong"))  # fmt: skip
    return found


# --- looking


def look(runs: Path = Path("runs"), thorough: bool = True) -> Facts:
    """The facts of this machine; `thorough` tries disks, broken libraries and what runs beside, in seconds."""
    limits = [memory_limit(folder) for folder in control_groups("memory")]
    disks = {"cache": cache_folder(), "runs": runs.absolute(), "temporary": Path(tempfile.gettempdir())}
    busy, steal = _beside() if thorough else ([], 0.0)
    newest = max((os.path.getmtime(m.__file__) for m in (torch, psutil) if m.__file__), default=0.0)
    return Facts(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        quota=cpu_quota(),
        threads=torch.get_num_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        busy=busy,
        steal=steal,
        variables=dict(os.environ),
        memory=psutil.virtual_memory().total,
        memory_free=memory_available(torch.device("cpu")),
        memory_limit=min((limit for limit in limits if limit is not None), default=None),
        swap_used=psutil.swap_memory().used,
        disks={use: _disk(path, thorough) for use, path in disks.items()},
        shared=shutil.disk_usage("/dev/shm").free if Path("/dev/shm").exists() else None,
        files=_open_files(),
        clock=time.time(),
        newest=newest,
        outside=_outside(),
        broken=_broken() if thorough else {},
        missing=[name for name in _BRINGS if not find_spec(name)],
        gpu_seen=_gpu_on_the_bus(),
        gpu_driver=(PROC / "driver" / "nvidia" / "version").exists(),
        cuda_built=torch.version.cuda is not None,
        cuda_works=torch.cuda.is_available(),
        governor=_line(SYS / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_driver=_line(SYS / "devices/system/cpu/cpu0/cpufreq/scaling_driver"),
        runtimes=_runtimes(),
        denormal=_denormal() if thorough else 1.0,
    )


def _open_files() -> int:
    try:
        import resource
    except ImportError:  # Windows has other limits
        return _FILES
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _beside(seconds: float = 0.5) -> tuple[list[tuple[str, float]], float]:
    """Other processes by the cores they use, of those that use a good part of one; and the share stolen."""
    mine = {os.getpid()}
    processes = [p for p in psutil.process_iter(["name"]) if p.pid not in mine]
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.cpu_percent()
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    used = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used.append((process.info["name"], process.cpu_percent() / 100))
    spent = sum(after) - sum(before)
    steal = (getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)) / spent if spent > 0 else 0.0
    return sorted((u for u in used if u[1] > 0.2), key=lambda u: -u[1]), steal


def _disk(path: Path, thorough: bool) -> Disk:
    """Of the file system that a folder is in, or would be made in."""
    there = next(p for p in (path, *path.parents) if p.exists())
    speed, writable = None, os.access(there, os.W_OK)
    if thorough and writable:
        try:
            speed = _write_speed(there)
        except OSError:
            writable = False
    return Disk(str(path), shutil.disk_usage(there).free, _file_system(there), writable, speed)


def _write_speed(folder: Path, size: int = 16 * _MIB) -> float:
    """Bytes a second of a file written and flushed, after which it is gone."""
    with tempfile.TemporaryFile(dir=folder) as file:
        block = os.urandom(_MIB)
        started = time.perf_counter()
        for _ in range(size // _MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return size / (time.perf_counter() - started)


def _file_system(path: Path) -> str:
    """The kind of the file system mounted nearest above a path."""
    best, kind = "", ""
    for line in _line(PROC / "self" / "mounts").splitlines():
        at, of = line.split()[1:3]
        at = at.encode().decode("unicode_escape")  # a space is \\040
        if path.resolve().is_relative_to(at) and len(at) >= len(best):
            best, kind = at, of
    return kind


def _outside() -> list[str]:
    """Requirements of ours that what is installed does not meet."""
    try:
        from packaging.requirements import Requirement  # comes with matplotlib

        required = [Requirement(text) for text in importlib.metadata.requires("jichu") or []]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return []
    found = []
    for r in required:
        if r.marker is not None and not r.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(r.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{r.name} is not installed; {r} is needed")
            continue
        if not r.specifier.contains(version, prereleases=True):
            found.append(f"{r.name} {version} is installed; {r} is needed")
    return found


def _broken() -> dict[str, str]:
    """What importing each of those libraries ends in, in a process of its own, which it may bring down."""
    found = {}
    for name in _BROKEN:
        if find_spec(name) is None:
            continue
        try:
            done = subprocess.run(
                [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=60
            )
        except subprocess.TimeoutExpired:
            found[name] = "it hangs"
            continue
        if done.returncode < 0:
            found[name] = f"it crashes (signal {-done.returncode})"
        elif done.returncode:
            found[name] = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return found


def _gpu_on_the_bus() -> bool:
    devices = (SYS / "bus" / "pci" / "devices").glob("*")
    return any(_line(d / "vendor") == _NVIDIA and _line(d / "class").startswith(_DISPLAY) for d in devices)


def _runtimes() -> list[str]:
    """Kinds of OpenMP runtimes loaded in this process; two copies of one kind are usual and do no harm."""
    loaded = _line(PROC / "self" / "maps")
    return [name for name in ("libgomp", "libiomp5", "libomp") if f"/{name}" in loaded]


def _denormal() -> float:
    """How many times as slow arithmetic is on numbers that are nearly zero."""

    def seconds(value: float) -> float:
        x, best = torch.full((200_000,), value), float("inf")
        for _ in range(5):
            started = time.perf_counter()
            x * 0.5 + x
            best = min(best, time.perf_counter() - started)
        return best

    return seconds(1e-41) / max(seconds(1.0), 1e-9)


def asdicts(found: list[Finding]) -> list[dict[str, Any]]:
    """For JSON."""
    return [finding._asdict() for finding in found]
