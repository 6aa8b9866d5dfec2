"""What `jichu doctor` measures, and that it finds what is wrong with a machine that is made up."""

import json
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jichu.cli import doctor as command
from jichu.cli.main import main
from jichu.core import devices, doctor, findings, limits
from jichu.core.findings import Disk, Facts
from jichu.models.cost import step_flops
from jichu.train.memory import fewest_rows

GIB = 2**30
CPU = torch.device("cpu")
GOOD = Facts(disks={"cache": Disk("/cache", 100 * GIB)}, shared=GIB)


# --- findings


def test_a_healthy_machine_has_none():
    assert findings.findings(GOOD) == [] == findings.findings(Facts())


@pytest.mark.parametrize(
    ("facts", "severity", "says", "remedy"),
    [
        ({"threads": 8}, "slows", "8 threads on 2 cores", "OMP_NUM_THREADS=2"),
        ({"cores": 8, "threads": 8, "quota": 1.5}, "slows", "grants 1.5 of 8", "OMP_NUM_THREADS=1"),
        ({"load": 5.0}, "slows", "a load of 5.0 on 2 cores", "wait"),
        ({"cores": 4, "busy": [("ffmpeg", 2.9)]}, "slows", "ffmpeg (2.9 cores)", "OMP_NUM_THREADS=1"),
        ({"steal": 0.3}, "slows", "take 30% of the time", "another host"),
        ({"governor": "powersave"}, "slows", "governor is powersave", "performance"),
        ({"variables": {"CUDA_LAUNCH_BLOCKING": "1"}}, "slows", "CUDA_LAUNCH_BLOCKING=1", "unset"),
        ({"variables": {"OMP_PROC_BIND": "true"}}, "slows", "ties threads", "unset OMP_PROC_BIND"),
        ({"variables": {"ATEN_CPU_CAPABILITY": "default"}}, "slows", "instructions", "unset"),
        ({"runtimes": ["libgomp", "libiomp5"]}, "slows", "a fork may hang", "from one place"),
        ({"denormal": 50.0}, "note", "50 times as slow", "set_flush_denormal"),
        ({"memory_free": GIB}, "slows", "1.0 GiB are free", "batch_size"),
        ({"memory_free": GIB // 4}, "breaks", "0.2 GiB are free", "batch_size"),
        ({"memory_limit": GIB}, "note", "1.0 of 16.0 GiB", "--memory"),
        ({"swap_used": 4 * GIB}, "slows", "4.0 GiB are swapped out", "batch_size"),
        ({"shared": 2**20}, "breaks", "/dev/shm", "--shm-size"),
        ({"disks": {"cache": Disk("/c", GIB)}}, "slows", "1.0 GiB are left at /c", "JICHU_CACHE"),
        ({"disks": {"runs": Disk("/r", 2**20)}}, "breaks", "0.0 GiB are left at /r", "another disk"),
        ({"disks": {"runs": Disk("/r", GIB * 9, writable=False)}}, "breaks", "cannot be written", "another disk"),
        ({"disks": {"cache": Disk("/c", GIB * 9, "nfs4")}}, "slows", "on a network (nfs4)", "JICHU_CACHE"),
        ({"disks": {"temporary": Disk("/t", GIB * 9, bytes_per_second=1e6)}}, "slows", "a second", "TMPDIR"),
        ({"gpu_seen": True}, "slows", "no driver", "install NVIDIA's driver"),
        ({"gpu_seen": True, "gpu_driver": True}, "slows", "built without CUDA", "pip install torch"),
        ({"gpu_driver": True, "cuda_built": True}, "slows", "older than torch's CUDA", "a newer driver"),
        ({"gpu_driver": True, "variables": {"CUDA_VISIBLE_DEVICES": ""}}, "note", "hides", "unset"),
        ({"broken": {"torchvision": "no nms"}}, "breaks", "torchvision is installed and cannot", "uninstall"),
        ({"outside": ["numpy 1.0 is installed"]}, "breaks", "numpy 1.0", "--upgrade"),
        ({"missing": ["simplejpeg"]}, "note", "simplejpeg is not installed", "JPEG"),
        ({"files": 512}, "slows", "512 files", "ulimit -n"),
        ({"files": 64}, "breaks", "64 files", "ulimit -n"),
        ({"clock": 1e9, "newest": 1e9 + 86_400}, "note", "1.0 days slow", "set the clock"),
    ],
)  # fmt: skip
def test_each_thing_wrong_is_found_alone(facts, severity, says, remedy):
    (found,) = findings.findings(replace(GOOD, **facts))
    assert found.severity == severity and says in found.what and remedy in found.remedy


def test_the_worst_comes_first():
    found = findings.findings(replace(GOOD, files=64, threads=9, missing=["simplejpeg"]))
    assert [f.severity for f in found] == ["breaks", "slows", "note"]


# --- looking


def file(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """An empty /proc, /sys and tree of control groups."""
    for name in ("proc", "sys", "cgroup"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(findings, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(findings, "SYS", tmp_path / "sys")
    return tmp_path


def test_limits_of_control_groups_version_2(system):
    assert limits.control_groups("memory") == [] and limits.cpu_quota() is None
    free = devices.memory_available(CPU)
    file(system / "proc/self/cgroup", "0::/a/b\n")
    file(system / "cgroup/a/b/memory.max", "max\n")
    file(system / "cgroup/a/b/cpu.max", "max 100000\n")
    assert limits.cpu_quota() is None and devices.memory_available(CPU) > free / 2
    file(system / "cgroup/a/memory.max", str(2**20))
    file(system / "cgroup/a/memory.current", str(2**20 - 5000))
    file(system / "cgroup/a/memory.stat", "anon 5\ninactive_file 1000\n")
    file(system / "cgroup/a/cpu.max", "50000 100000\n")
    assert devices.memory_available(CPU) == 6000  # what files take is given back when needed
    assert limits.cpu_quota() == 0.5 and limits.usable_cores() == 1
    assert findings.look(thorough=False).memory_limit == 2**20


def test_limits_of_control_groups_version_1(system):
    file(system / "proc/self/cgroup", "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/\n0::/\n")
    file(system / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert limits.memory_limit(system / "cgroup/memory") is None
    # in a container the path is the host's, and its own limits are at the root
    file(system / "cgroup/memory/memory.limit_in_bytes", "10000")
    file(system / "cgroup/memory/memory.usage_in_bytes", "4000")
    file(system / "cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 500\n")
    file(system / "cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    file(system / "cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert devices.memory_available(CPU) == 6500 and limits.cpu_quota() is None
    file(system / "cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000")
    assert limits.cpu_quota() == 3.0


def test_processes_on_one_machine_share_its_memory(system, monkeypatch):
    file(system / "proc/self/cgroup", "0::/\n")
    file(system / "cgroup/memory.max", "9000")
    file(system / "cgroup/memory.current", "1000")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert devices.memory_available(CPU) == 4000


def test_what_is_there_is_seen(system, tmp_path, monkeypatch):
    file(system / "sys/bus/pci/devices/0/vendor", "0x10de\n")
    file(system / "sys/bus/pci/devices/0/class", "0x030200\n")
    file(system / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    file(system / "proc/self/mounts", f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path}/net nfs4 rw 0 0\n")
    file(system / "proc/self/maps", "7f /a/libgomp.so.1\n7f /b/libiomp5.so\n")
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path / "net/cache"))
    (tmp_path / "net").mkdir()
    facts = findings.look(tmp_path / "runs", thorough=False)
    assert facts.gpu_seen and not facts.gpu_driver and facts.governor == "powersave"
    assert facts.disks["cache"].kind == "nfs4" and facts.disks["runs"].kind == "ext4"
    assert (
        facts.runtimes == ["libgomp", "libiomp5"] and facts.files > 0 and facts.clock > facts.newest > 1.7e9
    )


def test_a_disk_is_tried_and_left_clean(tmp_path):
    disk = findings._disk(tmp_path / "not" / "yet", thorough=True)
    assert disk.writable and disk.bytes_per_second > 0 and disk.free > 0 and not list(tmp_path.iterdir())


def test_libraries_that_cannot_be_imported_are_tried_apart(tmp_path, monkeypatch):
    for name, text in (
        ("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')"),
        ("torchaudio", "import os; os.abort()"),
        ("torchtext", ""),
    ):
        file(tmp_path / f"{name}.py", text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = findings._broken()
    assert "nms does not exist" in found["torchvision"] and "signal 6" in found["torchaudio"]
    assert "torchtext" not in found


def test_versions_outside_the_ranges(monkeypatch):
    monkeypatch.setattr(
        findings.importlib.metadata, "requires",
        lambda _: ["torch<1", "numpy>=1", "nothing-so-called>=2", 'absent>=1; extra == "dev"'],
    )  # fmt: skip
    told = findings._outside()
    assert (
        len(told) == 2 and "torch<1 is needed" in told[0] and "nothing-so-called is not installed" in told[1]
    )


# --- rates


def test_a_rate_is_work_by_time(monkeypatch):
    clock = iter([0.0, 0.0, 0.5, 1.0, 1.1, 2.0, 2.2, 9.0])
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(clock))
    found = doctor.rate(lambda: None, 10.0, 1.0, CPU)
    assert found == pytest.approx((10 / 0.1, 10 / 0.15))  # the first does not count


def test_the_rate_of_the_machine_is_measured_once_a_day(tmp_path, monkeypatch):
    monkeypatch.setenv("JICHU_CACHE", str(tmp_path))
    rates = iter([5e9, 3e9, 8e9, 1e9])
    monkeypatch.setattr(doctor, "_quick_product", lambda *_: next(rates))
    assert doctor.matmul_rate("float32", threads=1) == 5e9
    assert doctor.matmul_rate("float32", threads=1) == 5e9
    (kept,) = (tmp_path / "machines").iterdir()
    now = time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now + 90_000)
    assert doctor.matmul_rate("float32", threads=1) == 5e9  # measured as 3: the machine was busy
    assert doctor.matmul_rate("bfloat16", threads=1) == 8e9
    assert doctor.matmul_rate("float32", threads=1, refresh=True) == 1e9
    assert set(json.loads(kept.read_text())) == {"cpu float32 1", "cpu bfloat16 1"}
    kept.write_text("{half")
    rates = iter([2e9, 4e9])
    assert doctor.matmul_rate("float32", threads=1) == 2e9
    kept.write_text('{"cpu float32 1": {"flops": "much"}}')
    assert doctor.matmul_rate("float32", threads=1) == 4e9
    before = torch.get_num_threads()
    monkeypatch.undo()
    monkeypatch.setenv("JICHU_CACHE", "/proc/nowhere")  # cannot be written to
    assert doctor.matmul_rate("float32", threads=1) > 1e8 and torch.get_num_threads() == before


def test_the_key_of_a_machine(monkeypatch):
    key = doctor.machine_key()
    assert key == doctor.machine_key() != doctor.machine_key("resnet18")
    monkeypatch.setattr(doctor.platform, "node", lambda: "another")
    assert doctor.machine_key() != key


def test_the_command(capsys, monkeypatch):
    monkeypatch.setattr(findings, "look", lambda: replace(GOOD, files=64))
    monkeypatch.setattr(doctor, "_SIZES", (64, 128))
    monkeypatch.setattr(doctor, "_CONVOLUTIONS", ((4, 8),))
    monkeypatch.setattr(doctor, "_COPIES", (1,))
    monkeypatch.setattr(command.examine_machine, "__defaults__", (0.001,))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["precision"] for r in found["processor"]["product"]} == {"float32", "bfloat16"}
    assert {r["format"] for r in found["processor"]["convolution"]} == {"contiguous", "channels_last"}
    assert all(r["best"] >= r["median"] > 0 for r in found["processor"]["product"] + found["decode"])
    assert found["findings"][0]["remedy"].startswith("ulimit") and found["gpu"] is None
    assert found["environment"]["versions"]["torch"] == torch.__version__ and found["observations"]
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("matrix product", "convolution", "gather", "JPEG", "ulimit -n", "bfloat16"):
        assert word in out


def test_the_count_of_measurements_is_right(monkeypatch):
    monkeypatch.setattr(doctor, "_SIZES", (16,))
    monkeypatch.setattr(doctor, "_CONVOLUTIONS", ((2, 4),))
    monkeypatch.setattr(doctor, "_COPIES", (1,))
    told = []
    doctor.measure(CPU, 0.0, told.append)
    assert len(told) == doctor.count(CPU)


def rates(one, two, half, last=1.0):
    product = [
        {"precision": p, "size": 1, "threads": t, "best": v, "median": v}
        for p, t, v in (("float32", 1, one), ("float32", 2, two), ("bfloat16", 1, half), ("bfloat16", 2, half))
    ]  # fmt: skip
    both = [{"precision": "bfloat16", "size": 8, "format": f, "both": v}
            for f, v in (("contiguous", 1.0), ("channels_last", last))]  # fmt: skip
    return {"product": product, "convolution": both}


def test_what_the_rates_mean():
    assert "2.0× float32" in doctor.observations(rates(10, 20, 40))[0]
    assert "brings nothing" in doctor.observations(rates(10, 20, 15))[0]
    assert "2 threads do 1.05 times" in doctor.observations(rates(10, 10.5, 40))[1]
    assert "3.0× as fast" in doctor.observations(rates(10, 20, 40, 3.0))[1]


# --- operations of a training step


def step(module, x):
    return step_flops(lambda: module(x).sum(), module)


@pytest.mark.parametrize("both", [False, True])
def test_operations_of_a_recurrent_step(both):
    """A layer of H units on D inputs: four gates of H × (D + H) a step, a row and a direction; the backward
    pass twice that."""

    class Net(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.layer = kind(8, 16, num_layers=2, batch_first=True, bidirectional=both)

        def forward(self, x):
            return self.layer(x)[0]

    x, directions = torch.randn(2, 5, 8, requires_grad=True), 2 if both else 1
    forward = 2 * 2 * 5 * directions * 4 * 16 * (8 + 16 + directions * 16 + 16)
    assert step(Net(nn.LSTM), x) == 3 * forward
    assert step(Net(nn.GRU), x) == pytest.approx(
        3 * forward * 3 / 4, rel=0.1
    )  # the input's gradient is spared


def test_operations_of_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Parameter(torch.randn(2, 3, 7, 8))
            self.k = nn.Parameter(torch.randn(2, 3, 9, 8))

        def forward(self, x):
            return F.scaled_dot_product_attention(self.q, self.k, self.k)

    assert step(Attention(), None) == 3 * 2 * (2 * 3) * (2 * 7 * 9 * 8)


def test_operations_of_convolutions_and_what_is_left():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
    x, mean, state = torch.randn(2, 3, 8, 8), module[1].running_mean.clone(), torch.get_rng_state()
    first, second = 2 * 2 * 64 * 4 * 27, 2 * 2 * 64 * 5 * 4
    assert step(module, x) == 2 * first + 3 * second  # the images need no gradient
    assert torch.equal(module[1].running_mean, mean) and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in module.parameters())
    assert fewest_rows(module) == 2
