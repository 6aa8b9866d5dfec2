"""Personal data in texts: e-mail addresses, and numbers of telephones, identity cards and bank cards, as they are written in
English and Chinese. A number counts where its check digit is right, if it has one."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, get_args

from .config import PersonalKind

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_MAYBE = re.compile(r"[@＠]|\d[\d.]")  # without which there is nothing to be found
_NO_DIGIT = (r"(?<![\w.＠@/-])", r"(?![\w@＠]|[.-]\d)")  # what must not stand before and after a number
_FORMS = {
    "e-mail": r"[A-Za-z0-9][\w.+-]{0,63}\s?(?:@|＠|\[at\]|\(at\))\s?[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}\b",
    "identity card": r"(?<!\d)\d{17}[\dXx](?!\d)",
    "social security number": _NO_DIGIT[0] + r"\d{3}-\d{2}-\d{4}" + _NO_DIGIT[1],
    "bank card": r"(?<![\d.-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|\d{4}([ -]?)\d{6}\2\d{5})(?![\d.-])",
    "IP address": _NO_DIGIT[0] + r"(?:\d{1,3}\.){3}\d{1,3}" + _NO_DIGIT[1],
    "phone": "|".join(
        (
            r"(?<![\d.-])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\d.-])",  # mobile, China
            r"(?<![\d.-])(?:\(0\d{2,3}\)|（0\d{2,3}）|0\d{2,3}-)[ ]?\d{7,8}(?![\d.-])",  # fixed, China
            r"(?<![\w.+-])\+(?!86)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}(?![\d-])",
            r"(?<![\d.-])(?:1[ .-])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}(?![\d-])",  # North America
        )
    ),
}
_COMPILED = {kind: re.compile(form) for kind, form in _FORMS.items()}
KINDS: tuple[str, ...] = get_args(PersonalKind)  # in the order in which they are looked for


class Found(NamedTuple):
    """What stands in a text from `start` to `end`."""

    kind: str
    start: int
    end: int


def find(text: str, kinds: tuple[str, ...] = KINDS) -> list[Found]:
    """Personal data of some kinds, in the order of the text; of two that overlap, the kind that stands first in `KINDS`."""
    if not _MAYBE.search(text) and "at)" not in text and "at]" not in text:
        return []
    found: list[Found] = []
    for kind in KINDS:
        for start, end in _of_kind(text, kind):
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Found(kind, start, end))
    return sorted((f for f in found if f.kind in kinds), key=lambda f: f.start)


def masked(text: str) -> str:
    """Personal data with all but the first and the last character of each group hidden, to be shown."""
    return re.sub(r"(?<=\w)\w(?=\w)", "•", text)


def without(text: str) -> str:
    """A text in whose place of personal data stands what it was, "[phone]"."""
    for found in reversed(find(text)):
        text = f"{text[: found.start]}[{found.kind}]{text[found.end :]}"
    return text


def _of_kind(text: str, kind: str) -> Iterator[tuple[int, int]]:
    checked = _CHECKED.get(kind)
    for match in _COMPILED[kind].finditer(text):
        if checked is None or checked(match[0]):
            yield match.span()


def is_identity_card(number: str) -> bool:
    """Whether 18 characters are a number by GB 11643: a region, a date of birth, and the check digit of ISO 7064, mod
    11-2."""
    try:
        born = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True))
    return 11 <= int(number[:2]) <= 82 and born.year >= 1900 and _CHECKS[total % 11] == number[17].upper()


def is_bank_card(number: str) -> bool:
    """Whether 13 to 19 digits, perhaps in groups, are a card's by their first one and by Luhn's check (ISO/IEC 7812)."""
    digits = [int(d) for d in number if d.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    right = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return right and 13 <= len(digits) <= 19 and digits[0] in (2, 3, 4, 5, 6) and len(set(digits)) > 1


def _is_social_security(number: str) -> bool:
    area, group, serial = number.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


_CHECKED: dict[str, Callable[[str], bool]] = {
    "identity card": is_identity_card,
    "social security number": _is_social_security,
    "bank card": is_bank_card,
    "IP address": _is_address,
    "phone": lambda text: 7 <= sum(c.isdigit() for c in text) <= 15,
}
