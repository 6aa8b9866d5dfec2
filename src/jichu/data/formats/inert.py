"""The data in a pickle, without running it.

A pickle is a program for a small stack machine that may call any function. This machine knows the
instructions that build plain data; what is to be imported or called becomes an inert record, of which
only the description of a NumPy array of bytes is then understood.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from jichu.core.errors import DataError


@dataclass
class _Call:
    """Something that a pickle wants imported, called, and given a state. Nothing of it is done."""

    function: str
    arguments: Any = ()
    state: Any = None


_MARK = object()
_IGNORED = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def load(path: Path) -> Any:
    """Dicts, lists, tuples, texts and numbers, and arrays uint8 [...]. Texts of Python 2 are taken as
    Latin-1. DataError where it is damaged, or holds anything else."""
    try:
        return _plain(_run(path.read_bytes()))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"not a pickle of plain data: {error}", where=path, expected="dicts, lists and arrays of bytes"
        ) from None


def _run(program: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        place = max(i for i, item in enumerate(stack) if item is _MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    for opcode, given, _ in pickletools.genops(program):
        name, argument = opcode.name, cast(Any, given)
        if name in _IGNORED:
            continue
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"D": {}, "L": [], "T": ()}[name[6]])
        elif name in ("LIST", "TUPLE"):
            stack.append(list(above_mark()) if name == "LIST" else tuple(above_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            last = tuple(stack[-count:])
            del stack[-count:]
            stack.append(last)
        elif name in ("DICT", "SETITEMS", "SETITEM"):
            items = above_mark() if name != "SETITEM" else [stack.pop(-2), stack.pop()]
            if name == "DICT":
                stack.append({})
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("APPENDS", "APPEND"):
            items = above_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Call(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_Call(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_Call(function.function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        else:
            raise ValueError(f"the instruction {name} builds no plain data")
    return stack[-1]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, _Call):
        return _array(value)
    return value


def _array(call: _Call) -> np.ndarray:
    module, _, name = call.function.partition(" ")
    if name != "_reconstruct" or module.split(".")[0] != "numpy" or call.state is None:
        raise ValueError(f"it wants to call {call.function.replace(' ', '.')}")
    _, shape, dtype, fortran, content = call.state
    if dtype.arguments[0] not in ("u1", "|u1"):
        raise ValueError(f"an array of type {dtype.arguments[0]!r}, not of bytes")
    if isinstance(content, _Call) and content.function == "_codecs encode":  # bytes as Python 3 writes them
        content = content.arguments[0]
    raw = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
