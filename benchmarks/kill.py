"""Nothing is ever lost: a small run (data looked into, pretraining, fine-tuning with validation and patience,
estimated heads, audit) is stopped in every way there is, gone on with by --resume, and compared with one that
nobody disturbed: weights, metrics, predictions, audit and checkpoints bit for bit, no file lost, none left over.

    every instant    kill -9 before each of its file operations, and in the middle of each write
    at random        kill -9, SIGTERM and SIGINT after a random time; of whole processes too, from their start
    two processes    torchrun with two, of which one is killed
    disk full        no space at each file operation; and on a tmpfs of so many KiB, where it may be mounted
    cache full       the same for the decoded data

About half an hour on one core; --quick, a tenth of it; --texts does the same to a run of texts. A fault is printed and the exit code is 1."""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import killing

FAULTS = []
RANDOM = random.Random(0)
VERBOSE = bool(os.environ.get("KILL_VERBOSE"))
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


class Case:
    """A folder in which one thing goes wrong, and what must be true of it in the end."""

    def __init__(self, home, what):
        self.what = what
        self.folder = Path(tempfile.mkdtemp(dir=home))
        (self.folder / "r.yaml").write_text(killing.RECIPE)
        self.said = home / f"{self.folder.name}.txt"

    def fault(self, text):
        tail = self.said.read_text()[-1500:] if self.said.exists() else ""
        FAULTS.append(f"{self.what}: {text}")
        print(
            f"FAULT {self.what}: {text}" + (f"\n{tail}" if VERBOSE or "Traceback" in tail else ""), flush=True
        )
        return False

    def run(self, *extra):
        return killing.forked(killing.command(self.folder, *extra, resume=True), self.said)

    def ends_like(self, reference):
        """Gone on with it ends as if nothing had been."""
        if code := self.run():
            return self.fault(f"resumed with code {code}")
        if found := killing.differences(reference, self.folder / "runs" / "small"):
            return self.fault("; ".join(found))
        if found := killing.strays(self.folder):
            return self.fault(f"left over: {', '.join(found)}")
        if others := [p.name for p in (self.folder / "runs").iterdir() if p.name != "small"]:
            return self.fault(f"other runs: {', '.join(others)}")
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True


def at_instant(home, reference, number, act, what):
    case = Case(home, f"{what} {number}")

    def do():
        killing.Instants(case.folder, act, number).watch()
        return killing.command(case.folder)()

    code = killing.forked(do, case.said)
    if act is killing.full:
        told = case.said.read_text()
        if code and ("Traceback" in told or "no space is left on the disk" not in told):
            case.fault(f"code {code}, not one clear error")
    elif code != -signal.SIGKILL:
        case.fault(f"code {code} in the place of a kill")
    return case.ends_like(reference)


def count(what, outcomes, started):
    good, all_ = sum(outcomes), len(outcomes)
    print(f"{what}: {good} of {all_}, {time.monotonic() - started:.0f} s", flush=True)
    return {"system": what, "value": good, "low": good, "high": all_}


def every_instant(home, reference, told, quick):
    started, step = time.monotonic(), 8 if quick else 1
    chosen = range(0, len(told), step)
    done = [at_instant(home, reference, i, killing.kill, "kill before operation") for i in chosen]
    yield count("kill -9 before each file operation", done, started)
    started = time.monotonic()
    writes = [i for i, (event, _) in enumerate(told) if event == "open"][::step]
    done = [at_instant(home, reference, i, killing.tear, "kill in the middle of write") for i in writes]
    yield count("kill -9 in the middle of each write", done, started)


def disk_full(home, reference, told, quick):
    started, step = time.monotonic(), 8 if quick else 1
    chosen = [i for i, (event, _) in enumerate(told) if event in ("open", "os.mkdir", "os.rename")][::step]
    done = [at_instant(home, reference, i, killing.full, "disk full at operation") for i in chosen]
    yield count("disk full at each file operation", done, started)


def at_random(home, reference, told, quick):
    """The work itself, in processes that have imported everything already."""
    started = time.monotonic()
    killing.forked(killing.command(home / "whole", "--name", "again"))
    lasts = time.monotonic() - started
    for name, number in SIGNALS.items():
        started, done = time.monotonic(), []
        for i in range((10 if quick else 100) if name == "kill -9" else (5 if quick else 50)):
            case = Case(home, f"{name} at random {i}")
            child = killing.fork(killing.command(case.folder), case.said)
            time.sleep(RANDOM.random() * lasts)
            os.kill(child, number)
            _see(case, killing.wait(child), number)
            done.append(case.ends_like(reference))
        yield count(f"{name} after a random time", done, started)


def _see(case, code, number):
    """A signal that asks is answered: saved, told, and exit code 130; unless it came before or after."""
    told = case.said.read_text() if case.said.exists() else ""
    if number != signal.SIGKILL and code not in (0, 130, -number):
        case.fault(f"code {code} in the place of 130")
    if "Traceback" in told:
        case.fault("a traceback")


def processes(home, reference, told, quick):
    """Whole processes, from their first instant."""
    for name, number in SIGNALS.items():
        started, done = time.monotonic(), []
        for i in range(2 if quick else 10):
            case = Case(home, f"{name} of a process {i}")
            began = time.monotonic()
            process = _start([sys.executable, "-m", "jichu", "run", "r.yaml"], case)
            time.sleep(RANDOM.random() * (_start.lasts or 8))
            process.send_signal(number)
            code = process.wait()
            _start.lasts = _start.lasts or time.monotonic() - began if code == 0 else _start.lasts
            if (case.folder / "runs" / "small").exists():
                _see(case, code, number)
            done.append(case.ends_like(reference))
        yield count(f"{name} of a process at any time from its start", done, started)


def _start(command, case):
    about = {"OMP_NUM_THREADS": "1", "JICHU_CACHE": str(case.folder / "cache")}
    return subprocess.Popen(
        command,
        cwd=case.folder,
        env={**os.environ, **about},
        stderr=open(case.said, "w"),
        stdout=subprocess.DEVNULL,
    )


_start.lasts = None


def two(home, reference, told, quick):
    """One of two processes is killed; the other ends by itself, and both go on."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "jichu", "run", "r.yaml"]  # fmt: skip
    undisturbed = Case(home, "two processes")
    began = time.monotonic()
    if _start(launch, undisturbed).wait():
        undisturbed.fault("did not run")
    lasts, started, done = time.monotonic() - began, time.monotonic(), []
    for i in range(2 if quick else 12):
        case = Case(home, f"one of two killed {i}")
        process = _start(launch, case)
        time.sleep((0.15 + 0.85 * RANDOM.random()) * lasts)
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = sorted(psutil.Process(process.pid).children(), key=lambda p: p.pid)
            if len(workers) > i % 2:
                workers[i % 2].kill()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            case.fault("the other hangs")
            process.kill()
        code = 1
        for _ in range(2):
            begun = (case.folder / "runs" / "small" / "recipe.yaml").exists()
            if code:
                code = _start([*launch, *(["--resume"] if begun else [])], case).wait()
        done.append(not code and case.ends_like(undisturbed.folder / "runs" / "small"))
    yield count("kill -9 of one of two processes", done, started)


def small_disk(home, reference, told, quick):
    """A disk of its own for data and run, full at one place or another; then made larger."""
    started, done = time.monotonic(), []
    used = sum(f.stat().st_blocks * 512 for f in (home / "whole").rglob("*") if f.is_file())
    for i in range(4 if quick else 40):
        case = Case(home, f"disk {i}")
        size = int(used * (i + 1) / (4 if quick else 40))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", case.folder], capture_output=True).returncode:  # fmt: skip
            print("disk full on a tmpfs: it cannot be mounted here")
            return
        try:
            try:
                (case.folder / "r.yaml").write_text(killing.RECIPE)
            except OSError:
                continue
            code, said = case.run(), case.said.read_text()
            if code and ("Traceback" in said or " is left on the disk" not in said):
                case.fault(f"code {code}, not one clear error")
            subprocess.run(["mount", "-o", "remount,size=1g", case.folder], check=True)
            done.append(case.ends_like(reference))
        finally:
            subprocess.run(["umount", "-l", case.folder], check=True)
    yield count("disk full on a tmpfs, which is then made larger", done, started)


PARTS = {"every": every_instant, "random": at_random, "processes": processes, "two": two, "full": disk_full, "tmpfs": small_disk}  # fmt: skip


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", choices=PARTS)
    options.add_argument("--texts", action="store_true", help="pretraining and fine-tuning on sentences")
    options = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "whole").mkdir()
        if options.texts:
            killing.RECIPE = killing.TEXTS
            killing.write_texts(home / "said.csv")
        told = killing.whole(home / "whole")
        reference = home / "whole" / "runs" / "small"
        for name, part in PARTS.items():
            if options.only in (None, name):
                rows += part(home, reference, told, options.quick)
    if not options.quick and not options.only:
        name = "kill_texts" if options.texts else "kill"
        results.write(name, "runs that ended bit for bit as if nothing had been, of all", rows)
    sys.exit(f"{len(FAULTS)} faults" if FAULTS else 0)


if __name__ == "__main__":
    main()
