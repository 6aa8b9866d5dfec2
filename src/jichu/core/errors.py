"""The errors a person sees, and how a likely name is found for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 4000  # characters of a line that a person reads; names in the data may be longer


class JichuError(Exception):
    """Says what is wrong, where, what was expected and the nearest valid choice; `code` is the exit code."""

    code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        nearest: object = None,
    ):
        self.what, self.where, self.expected, self.nearest = what, where, expected, nearest
        lines = [_short(what, _LONGEST)]
        for label, value in (
            ("where", where),
            ("expected", expected),
            ("did you mean", nearest),
        ):
            if value is not None:
                lines.append(f"  {label}: {_short(str(value), _LONGEST)}")
        super().__init__("\n".join(lines))


class UsageError(JichuError):
    """A wrong option, recipe or argument."""

    code = 2


class DataError(JichuError):
    """Data that cannot be used."""

    code = 3


class CheckFailed(JichuError):
    """A gate or a contract was not met."""

    code = 4


class Interrupted(JichuError):
    """Stopped by the user; what was done is kept and can be resumed."""

    code = 130


class DiskFull(JichuError):
    """A file could not be written for want of space; what was there before is as it was."""


class PeerLost(JichuError):
    """Another of the processes that train together has ended."""


class NotFinite(JichuError):
    """Training met a loss that is not a finite number."""


def shown(value: object) -> str:
    """A value as Python writes it, its middle left out where it is long."""
    return _short(repr(value), 300)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 100]} … {text[-50:]}"


def nearest(word: str, choices: Iterable[object]) -> str | None:
    """The choice most like `word`, or None where nothing is near."""
    found = difflib.get_close_matches(str(word), [str(c) for c in choices], n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, word: str, choices: Iterable[object], *, where: object = None) -> UsageError:
    """The error for a name that is in no table: lists the choices and the nearest of them."""
    names = sorted(str(c) for c in choices)
    return UsageError(
        f"unknown {kind} {shown(word)}",
        where=where,
        expected=f"one of {', '.join(names)}" if names else None,
        nearest=nearest(word, names),
    )


def missing_extra(library: str, extra: str) -> UsageError:
    """The error for an optional library that is not installed."""
    return UsageError(f"{library} is not installed", expected=f"pip install 'jichu[{extra}]'")
