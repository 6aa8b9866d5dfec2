"""What may come of a case: success or an error of ours, in time, in memory, and nothing run."""

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import threading
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import psutil

from jichu.core.errors import DataError, UsageError
from jichu.core.progress import console

OURS = (UsageError, DataError)
_LONGEST = 20_000  # characters of a message that a person may be asked to read


class Broken(AssertionError):
    """What must not come of a case."""


class TooSlow(BaseException):
    """Not an Exception, so that nothing on the way takes it for one of its own."""


@dataclass
class Case:
    """One attempt: its own random numbers, its own empty folder, and the file that nothing may make."""

    rng: random.Random
    folder: Path
    runs: Path  # the finished runs that some cases begin with

    @property
    def canary(self):
        return self.folder / "canary"

    def file(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path


def attempt(function, name, seed, number, *, scratch, runs, seconds):
    """Try one case; gives `done`, `UsageError` or `DataError`, and raises `Broken` with the story."""
    folder = Path(scratch) / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    case = Case(random.Random(f"{seed}/{name}/{number}"), folder, Path(runs))
    before, cache = os.getcwd(), os.environ.get("JICHU_CACHE")
    os.environ["JICHU_CACHE"], console.quiet = str(folder / "cache"), True
    os.chdir(folder)
    try:
        with warnings.catch_warnings(), _within(seconds):
            warnings.simplefilter("ignore")
            outcome = function(case) or "done"
    except OURS as error:
        _check_message(str(error))
        outcome = type(error).__name__
    except TooSlow:
        held, most = psutil.Process().memory_info().vms >> 20, resource.getrlimit(resource.RLIMIT_AS)[0] >> 20
        raise Broken(
            f"more than {seconds} s, {held:,} of {most:,} MiB of addresses\n{traceback.format_exc(limit=-6)}"
        ) from None
    except Broken:
        raise
    except Exception:
        raise Broken(traceback.format_exc(limit=-12)) from None
    finally:
        os.chdir(before)
        os.environ.pop("JICHU_CACHE") if cache is None else os.environ.update(JICHU_CACHE=cache)
    if case.canary.exists():
        raise Broken("what was read was run")
    return outcome


def command(main, arguments):
    """The outcome of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:  # --help and --version
            code = stop.code
    told = err.getvalue()
    if code not in (0, UsageError.code, DataError.code) or "Traceback" in told:
        raise Broken(f"exit code {code} of {arguments}\n{told}")
    if code:
        _check_message(told)
    return {0: "done", 2: "UsageError", 3: "DataError"}[code]


def tolerant(*steps):
    """Every step is tried, whatever became of the one before; the last outcome counts."""
    outcome = "done"
    for step in steps:
        try:
            step()
        except OURS as error:
            _check_message(str(error))
            outcome = type(error).__name__
    return outcome


def _check_message(message):
    if len(message.split()) < 2 or len(message) > _LONGEST:
        raise Broken(f"a message of {len(message)} characters: {message[:500]!r}")


@contextlib.contextmanager
def _within(seconds):
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def memory_held(gib):
    """This process may take so much more than it has; what it asks for beyond that is refused."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
