"""What reads is fed what it should not be: recipes, `--set`, images, tables, arrays, checkpoints, runs.

Every case must end in success or in an error of ours, in time and within 3 GiB more than the libraries
take, and nothing that was read may run. The cases are those of tests/fuzzing, by (target, seed, number):
100,000 of them take about ten minutes of two cores. Each worker is a process of its own, which is watched and made
anew where it dies.

    python benchmarks/fuzz.py --cases 2000 --workers 2     fewer
    python benchmarks/fuzz.py --target yaml --seed 7       one target, other cases
    python benchmarks/fuzz.py --again yaml:0:123           one case, with its traceback
"""

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PIECE = 200  # cases that a worker is given at a time
GIB = 3


def work(pipe, runs, scratch):
    """Try the cases that come through the pipe; send (number, outcome, story) after each."""
    import faulthandler

    import torch

    from fuzzing.cases import Broken, attempt, memory_held
    from fuzzing.targets import TARGETS

    faulthandler.enable(open(os.path.join(scratch, "fault"), "w"))  # noqa: SIM115
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # libtiff and others write there by themselves
    with memory_held(GIB):
        while task := pipe.recv():
            name, seed, numbers = task
            function, _, seconds = TARGETS[name]
            for number in numbers:
                try:
                    outcome, story = (
                        attempt(function, name, seed, number, scratch=scratch, runs=runs, seconds=seconds),
                        "",
                    )
                except Broken as broken:
                    outcome, story = "broken", str(broken)
                pipe.send((number, outcome, story))
            pipe.send(None)


class Worker:
    """A process that tries pieces of work, made anew where one dies or hangs."""

    def __init__(self, runs):
        self.runs, self.piece, self.scratch = runs, None, tempfile.mkdtemp(prefix="fuzz-")
        self.start()

    def start(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=work, args=(theirs, self.runs, self.scratch), daemon=True
        )
        self.process.start()
        theirs.close()

    def give(self, name, seed, numbers, seconds):
        self.piece, self.seconds, self.last = (name, seed, list(numbers)), seconds, time.monotonic()
        self.pipe.send(self.piece)

    def take(self, report):
        """Report what has come; True once the piece is done."""
        name, seed, left = self.piece
        try:
            while self.pipe.poll(0):
                found = self.pipe.recv()
                if found is None:
                    self.piece = None
                    return True
                report(name, seed, *found)
                left.remove(found[0])
                self.last = time.monotonic()
            hangs = time.monotonic() - self.last > 2 * self.seconds + 60  # the first waits for the imports
            if not hangs:
                return False
        except (EOFError, ConnectionResetError):
            hangs = False
        self.process.kill()
        self.process.join()
        told = Path(self.scratch, "fault").read_text() if Path(self.scratch, "fault").exists() else ""
        what = "hangs" if hangs else f"the process died: {self.process.exitcode}"
        report(name, seed, left.pop(0), "broken", f"{what}\n{told[:3000]}")
        self.start()
        self.give(name, seed, left, self.seconds)
        return False


def main():
    from fuzzing.targets import TARGETS, counts

    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--cases", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--start", type=int, default=0, help="number of each target's first case")
    options.add_argument("--target", choices=TARGETS, help="all if not given")
    options.add_argument("--workers", type=int, default=os.cpu_count())
    options.add_argument("--again", metavar="TARGET:SEED:NUMBER", help="one case in this process")
    options.add_argument("--quick", action="store_true", help="500 cases, and nothing is kept")
    given = options.parse_args()
    multiprocessing.set_start_method("spawn")
    with tempfile.TemporaryDirectory(prefix="fuzz-runs-") as runs:
        prepare(Path(runs))
        if given.again:
            return again(given.again, runs)
        shares = {given.target: given.cases} if given.target else counts(500 if given.quick else given.cases)
        return try_all(shares, given, runs)


def prepare(runs):
    from fuzzing.runs import make_runs
    from jichu.core.progress import console

    console.quiet = True
    os.environ["JICHU_CACHE"] = str(runs / "cache")
    make_runs(runs)


def again(text, runs):
    from fuzzing.cases import attempt
    from fuzzing.targets import TARGETS

    name, seed, number = text.split(":")
    function, _, seconds = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        print(attempt(function, name, int(seed), int(number), scratch=scratch, runs=runs, seconds=seconds))


def try_all(shares, given, runs):
    from fuzzing.targets import TARGETS

    TARGETS_SECONDS = {name: seconds for name, (_, _, seconds) in TARGETS.items()}
    pieces = [
        (name, given.seed, range(n, min(n + PIECE, given.start + count)), TARGETS_SECONDS[name])
        for name, count in shares.items()
        for n in range(given.start, given.start + count, PIECE)
    ]
    pieces.sort(key=lambda piece: -piece[3])  # the slow ones first
    outcomes = collections.defaultdict(collections.Counter)
    failures, started = [], time.monotonic()

    def report(name, seed, number, outcome, story):
        outcomes[name][outcome] += 1
        if outcome == "broken":
            failures.append({"case": f"{name}:{seed}:{number}", "story": story[-2000:]})
            print(f"--- {name}:{seed}:{number}\n{story[-2000:]}", flush=True)

    workers = [Worker(runs) for _ in range(max(1, min(given.workers, len(pieces))))]
    busy = []
    while pieces or busy:
        for worker in workers:
            if worker.piece is None and pieces:
                worker.give(*pieces.pop(0))
                busy.append(worker)
            elif worker.piece is not None and worker.take(report):
                busy.remove(worker)
        time.sleep(0.02)
    for worker in workers:
        worker.pipe.send(None)
    seconds = time.monotonic() - started
    rows = [
        {"system": f"{name}: {outcome}", "value": count}
        for name, found in sorted(outcomes.items())
        for outcome, count in sorted(found.items())
    ]
    total = sum(row["value"] for row in rows)
    rows += [{"system": "cases", "value": total}, {"system": "failures", "value": len(failures)}, {"system": "seconds", "value": round(seconds)}]  # fmt: skip
    print(f"{total} cases, {len(failures)} failures, {seconds:.0f} s")
    if not given.quick:
        results.write("fuzz", f"cases by target and outcome, seed {given.seed}", rows, failures=failures)
    return min(1, len(failures))


if __name__ == "__main__":
    sys.exit(main())
