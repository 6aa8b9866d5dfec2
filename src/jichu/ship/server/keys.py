"""Who may ask, and how often. Tokens are kept as digests, compared in constant time, and told to nobody."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jichu.core.errors import UsageError, nearest

from .errors import Refused

TOKEN = "JICHU_TOKEN"  # the environment's variable
_SHORTEST = 16  # characters of a token
_SENT = re.compile("[!-~]+")  # what a header can carry
_COMMENT = re.compile(r"(^|\s)#.*")
_WORDS = ("admin", "expires", "rate")
_FORGOTTEN = 10_000  # callers that are remembered


@dataclass(frozen=True)
class Key:
    """What a token stands for. `rate` is in requests a minute."""

    name: str
    digest: bytes
    expires: datetime | None = None
    admin: bool = False
    rate: int | None = None


def read(file: Path | None) -> list[Key]:
    """The keys in a file, and the one in the environment, which is called `default`. UsageError names the line at
    fault, and never what stands in it."""
    found = []
    if file is not None:
        try:
            lines = file.read_text("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise UsageError(f"cannot read the tokens: {why}", where=file) from None
        told = (_COMMENT.sub("", line).split() for line in lines)
        found = [_key(words, f"{file}:{i}") for i, words in enumerate(told, 1) if words]
        if not found:
            raise UsageError("no token in it", where=file, expected="NAME TOKEN on a line")
    if token := os.environ.get(TOKEN):
        found.append(_key(["default", token], TOKEN))
    for i, key in enumerate(found):
        if any(key.name == other.name or key.digest == other.digest for other in found[:i]):
            raise UsageError(f"the name or the token of {key.name} is given twice", where=file)
    return found


def _key(words: list[str], where: str) -> Key:
    if len(words) < 2:
        raise UsageError(
            "a line without a token", where=where, expected="NAME TOKEN [expires=DATE] [rate=N] [admin]"
        )
    name, token, *more = words
    if len(token) < _SHORTEST:
        raise UsageError(
            f"a token of {len(token)} characters", where=where,
            expected=f"{_SHORTEST} at least, for example of: openssl rand -hex 32",
        )  # fmt: skip
    if not _SENT.fullmatch(token):
        raise UsageError(
            "a token that no request can carry", where=where, expected="letters of ASCII, digits and signs, no blanks"
        )  # fmt: skip
    said = dict(word.partition("=")[::2] for word in more)
    for word, value in said.items():
        if word not in _WORDS or (word == "admin") == bool(value):
            raise UsageError(
                f"unknown word number {3 + list(said).index(word)}", where=where,
                expected="expires=2030-01-31, rate=60 (requests a minute) or admin", nearest=nearest(word, _WORDS),
            )  # fmt: skip
    try:
        expires = datetime.fromisoformat(said["expires"]) if "expires" in said else None
        rate = int(said["rate"]) if "rate" in said else None
        if rate is not None and rate < 1:
            raise ValueError
    except ValueError:
        raise UsageError(
            "a date or a rate that is none", where=where, expected="expires=2030-01-31, rate=60"
        ) from None
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return Key(name, _digest(token), expires, "admin" in said, rate)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class Keys:
    """Who may ask. `again` reads the keys anew."""

    def __init__(self, read: Callable[[], list[Key]], rate: int | None = None):
        self._read, self._rate = read, rate
        self.all = read()
        self._spent: dict[str, tuple[float, float]] = {}  # of each caller what is left, and when it was

    def again(self) -> None:
        """Read them anew; UsageError leaves them as they were."""
        self.all = self._read()

    def admit(self, authorization: str | None, host: str) -> Key:
        """The caller's key. 401 without a token that holds, 429 for too many requests."""
        key = self._known(authorization) if self.all else Key(host, b"")
        self._spend(key)
        return key

    def _known(self, authorization: str | None) -> Key:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unknown("no token", "Authorization: Bearer TOKEN")
        digest, found = _digest(token.strip()), None
        for key in self.all:  # all of them, however soon one fits
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise _unknown("an unknown token", "one that this server was given")
        if found.expires is not None and found.expires <= datetime.now(UTC):
            raise _unknown(f"a token that expired on {found.expires:%Y-%m-%d}", "a new one")
        return found

    def _spend(self, key: Key) -> None:
        rate = key.rate or self._rate
        if rate is None:
            return
        now = time.monotonic()
        left, then = self._spent.pop(key.name, (float(rate), now))
        left = min(float(rate), left + (now - then) * rate / 60)
        if len(self._spent) >= _FORGOTTEN:
            self._spent.pop(next(iter(self._spent)))  # who has not come for longest
        self._spent[key.name] = max(0.0, left - 1) if left >= 1 else left, now
        if left < 1:
            raise Refused(
                429, f"more than {rate} requests a minute", code="rate_limit_exceeded",
                headers={"Retry-After": str(max(1, round((1 - left) * 60 / rate + 0.5)))},
            )  # fmt: skip


def _unknown(what: str, expected: str) -> Refused:
    return Refused(
        401, f"{what}; expected {expected}", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
    )
