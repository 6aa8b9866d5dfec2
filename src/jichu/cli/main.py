"""`jichu VERB …`: one parser, one place where errors become messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence

import jichu
from jichu.core.errors import Interrupted, JichuError, PeerLost
from jichu.core.interrupt import Stop, leave, terminable, undisturbed

from .commands import COMMANDS
from .options import Parser

_EXIT_CODES = "exit codes: 0 done; 2 wrong usage or recipe; 3 unusable data; 4 a check failed; 130 interrupted; 1 anything else"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="jichu",
        description="From raw data to a served, audited foundation model.",
        epilog=f"example: jichu run quickstart\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"jichu {jichu.__version__}")
    commands = top.add_subparsers(dest="verb", metavar="COMMAND", parser_class=Parser)
    for module in COMMANDS:
        module.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    _stand_in()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug, stop = "--debug" in given, Stop()
    with undisturbed():
        try:
            with terminable() as stop:
                code = _command(given)
                sys.stdout.flush()  # here, where what goes wrong can be told
                return code
        except BrokenPipeError:  # whoever read the result has read enough
            _silence()
            return 0
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code = _tell(error, stop)
            if arguments is None and code == Interrupted.code:
                # Python would end the process by SIGINT where KeyboardInterrupt went through code that was made of a
                # string, as data classes are, whoever caught it afterwards
                leave(code)
            return code


def _tell(error: BaseException, stop: Stop) -> int:
    """Say what went wrong; gives its exit code."""
    if isinstance(error.__context__, PeerLost):  # that the launcher ended this process too is not the reason
        error = error.__context__
    stopped = stop.requested and not isinstance(error, JichuError)
    code, told = _explain(KeyboardInterrupt() if stopped else error)
    # of several processes one speaks; of one that is lost, those that are left
    if os.environ.get("RANK", "0") == "0" or isinstance(error, PeerLost):
        with contextlib.suppress(OSError):
            print(f"jichu: {told}", file=sys.stderr)
    _silence()
    return code


def _command(given: list[str]) -> int:
    options = parser().parse_args(given)
    if options.verb is None:
        parser().print_help()
        return 0
    if options.quiet:
        from jichu.core.progress import console

        console.quiet = True
    return options.run_verb(options) or 0


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code of what went wrong, and the words for it."""
    if isinstance(error, JichuError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, OSError) and error.strerror:
        cure = "a place that may be written to, or read" if error.errno in _REFUSED else None
        what = error.strerror[0].lower() + error.strerror[1:]
        return 1, str(JichuError(what, where=error.filename2 or error.filename, expected=cure))
    again = "run again with --debug for the traceback"
    return 1, str(JichuError(f"{type(error).__name__}: {error}", expected=again))


def _stand_in() -> None:
    """Where standard streams are closed nothing stands in their place: else the first file that is opened
    would, and get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 (as long as the process)
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _silence() -> None:
    """What could not be printed is not tried again at the end of the process."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
