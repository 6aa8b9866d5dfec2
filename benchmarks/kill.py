"""Nothing is ever lost: a small run (data looked into, pretraining, fine-tuning with validation and patience,
estimated heads, audit) is stopped in every way there is, gone on with by --resume, and compared with one that
nobody disturbed: weights, metrics, predictions, audit and checkpoints bit for bit, no file lost, none left over.

    every instant    kill -9 before each of its file operations, and in the middle of each write
    at random        kill -9, SIGTERM and SIGINT after a random time; of whole processes too, from their start
    two processes    torchrun with two, of which one is killed
    disk full        no space at each file operation; and on a tmpfs of so many KiB, where it may be mounted
    cache full       the same for the decoded data

About half an hour on one core; --quick, a tenth of it. A fault is printed and the exit code is 1."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import killing

FAULTS = []
VERBOSE = bool(os.environ.get('KILL_VERBOSE'))
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
        print(f"FAULT {self.what}: {text}" + (f"\n{tail}" if VERBOSE else ""), flush=True)
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
        shutil.rmtree(self.folder)
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


PARTS = {"every": every_instant, "full": disk_full}


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", choices=PARTS)
    options = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        (home / "whole").mkdir()
        told = killing.whole(home / "whole")
        reference = home / "whole" / "runs" / "small"
        for name, part in PARTS.items():
            if options.only in (None, name):
                rows += part(home, reference, told, options.quick)
    if not options.quick and not options.only:
        results.write("kill", "runs that ended bit for bit as if nothing had been, of all", rows)
    sys.exit(f"{len(FAULTS)} faults" if FAULTS else 0)


if __name__ == "__main__":
    main()
