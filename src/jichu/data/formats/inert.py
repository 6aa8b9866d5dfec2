"""The data in a pickle, without running it.

A pickle is a program for a small stack machine that may import and call anything. This machine knows the
instructions that build plain data, and the few names by which NumPy describes an array of bytes; it
imports nothing and calls nothing, and stops at anything else.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jichu.core.errors import DataError


@dataclass(eq=False)
class _Named:
    """One of the names below; of a call that is not done, its arguments and the state set afterwards."""

    name: str
    arguments: Any = ()
    state: Any = None


_ENCODE, _DTYPE, _NDARRAY = "_codecs encode", "numpy dtype", "numpy ndarray"
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_FROM_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
_NAMES = {_ENCODE, _DTYPE, _NDARRAY, *_RECONSTRUCT, *_FROM_BUFFER}

_IGNORED = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def load(path: Path) -> dict[str, Any]:
    """The dict in a pickle: its keys as text (that of Python 2 taken as Latin-1), its arrays as uint8 [...],
    all else as it stands there. DataError where it is damaged, or holds anything but plain data."""
    try:
        found = _run(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__} and no dict")
        return {text(k): _array(v) if isinstance(v, _Named) else v for k, v in found.items()}
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(
            f"not a pickle of plain data: {error}", where=path, expected="dicts, lists and arrays of bytes"
        ) from None


def text(value: Any) -> str:
    """Text, or bytes that a Python 2 meant as text. ValueError where it is neither."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a text should be")
    return value


def _run(program: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        place = marks.pop()
        items = stack[place:]
        del stack[place:]
        return items

    instructions: Iterator[tuple[Any, Any, Any]] = pickletools.genops(program)
    for opcode, argument, _ in instructions:
        name = opcode.name
        if name in _IGNORED:
            continue
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"D": {}, "L": [], "T": ()}[name[6]])
        elif name in ("LIST", "TUPLE"):
            stack.append(above_mark() if name == "LIST" else tuple(above_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("DICT", "SETITEMS", "SETITEM"):
            items = above_mark() if name != "SETITEM" else [stack.pop(-2), stack.pop()]
            if name == "DICT":
                stack.append({})
            stack[-1].update(zip(map(text, items[::2]), items[1::2], strict=True))
        elif name in ("APPENDS", "APPEND"):
            items = above_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_known(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = text(stack.pop()), text(stack.pop())
            stack.append(_known(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function.name, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        else:
            raise ValueError(f"the instruction {name} builds no plain data")
    return stack[-1]


def _known(name: str) -> _Named:
    if name not in _NAMES:
        raise ValueError(f"it asks for {name.replace(' ', '.')[:100]}")
    return _Named(name)


def _called(name: str, arguments: Any) -> Any:
    if name == _ENCODE:  # how bytes are written for the older protocols
        return arguments[0].encode("latin-1")
    return _Named(name, arguments)


def _array(call: _Named) -> np.ndarray:
    if call.name in _RECONSTRUCT:
        _, shape, dtype, fortran, content = call.state
    elif call.name in _FROM_BUFFER:
        content, dtype, shape, order = call.arguments
        fortran = order == "F"
    else:
        raise ValueError(f"a {call.name.replace(' ', '.')} where an array should be")
    if dtype.name != _DTYPE or dtype.arguments[0] not in ("u1", "|u1"):
        raise ValueError("an array of something else than bytes")
    raw = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
