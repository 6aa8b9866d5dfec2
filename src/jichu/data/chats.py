"""Conversations in whatever form they are found, as messages: `[{"role": …, "content": …}, …]`.

Read are `messages` (role, content) as OpenAI has them, `conversations` (from, value) as ShareGPT has them,
and `instruction`, `input`, `output` as Alpaca has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from jichu.core.errors import shown

from .large_tables import gathered
from .source import Column
from .types import is_text

_TURNS = ("messages", "conversations", "conversation", "dialogue", "dialog")
_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "function_call": "assistant", "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_ALPACA = ("system", "instruction", "input", "history", "output")
_ROWS = 1000  # made at a time


def may_hold_chats(names: Iterable[str]) -> bool:
    """Whether columns are called as conversations are."""
    return bool({*_TURNS} & {*names}) or {"instruction", "output"} <= {*names}


def chat_column(table: pa.Table) -> tuple[list[str], Column] | None:
    """The columns that hold conversations, and the messages of each row as JSON; None where there are none.
    The columns of Alpaca are not among the first: they stand beside the messages."""
    turns = [n for n in _TURNS if n in table.column_names and _holds_turns(table[n])]
    alpaca = all(n in table.column_names and is_text(table[n].type) for n in ("instruction", "output"))
    if not turns and not alpaca:
        return None
    used = {*turns, "system", *(_ALPACA if alpaca else ()), *_MEDIA}
    part = table.select([n for n in table.column_names if n in used])
    faults: dict[int, str] = {}
    schema = pa.schema({"messages": pa.large_string()})
    rows = (row for batch in part.to_batches(_ROWS) for row in batch.to_pylist())
    made = gathered(schema, _batches(rows, turns, faults, schema), part.nbytes)
    return turns, Column("chat", made["messages"], faults=faults)


def _holds_turns(cells: pa.ChunkedArray) -> bool:
    some = (c for chunk in cells.chunks for c in chunk.drop_null().slice(0, 100).to_pylist() if c)
    first = next(some, None)
    if isinstance(first, str) and first.lstrip()[:1] == "[":
        try:
            first = json.loads(first)
        except (ValueError, RecursionError):
            return False
    return (
        isinstance(first, list)
        and bool(first)
        and isinstance(first[0], dict)
        and bool({"role", "from"} & {*first[0]})
    )


def _batches(
    rows: Iterable[dict[str, Any]], turns: list[str], faults: dict[int, str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    made: list[str | None] = []
    number = -1
    for number, row in enumerate(rows):
        try:
            made.append(dumps(_messages(row, turns)))
        except (ValueError, RecursionError) as error:
            faults[number] = str(error)
            made.append(None)
        if len(made) == _ROWS:
            yield pa.record_batch([pa.array(made, pa.large_string())], schema)
            made = []
    yield pa.record_batch([pa.array(made, pa.large_string())], schema)


def dumps(messages: list[dict[str, str]]) -> str:
    """A conversation as it is kept."""
    return json.dumps(messages, ensure_ascii=False)


def _messages(row: dict[str, Any], turns: list[str]) -> list[dict[str, str]]:
    """The conversation of a row, in the first of the columns `turns` that has one there, or as Alpaca has it.
    ValueError where it is none, or one that cannot be learned from."""
    if media := next((m for m in _MEDIA if row.get(m)), None):
        raise ValueError(f"a conversation with {media}, of which only texts are used")
    found = [{"role": "system", "content": _content(row["system"])}] if row.get("system") else []
    said_there = next((row[name] for name in turns if row[name] is not None), None)
    if said_there is None and "instruction" in row:
        history = row.get("history")
        for pair in history if isinstance(history, list) else ():
            found += said(pair if isinstance(pair, list) else [pair])
        asked = [_content(row.get(n)) for n in ("instruction", "input")]
        found += said(["\n".join(t for t in asked if t), row.get("output")])
    else:
        if isinstance(said_there, str):
            said_there = json.loads(said_there)
        if not isinstance(said_there, list):
            raise ValueError(f"{shown(said_there)} where messages should be")
        found += [_turn(turn) for turn in said_there]
    return learnable(found)


def said(turns: list[Any]) -> list[dict[str, str]]:
    """What two said in turn, the person first."""
    return [{"role": ("user", "assistant")[i % 2], "content": _content(t)} for i, t in enumerate(turns)]


def learnable(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages; ValueError where the assistant says nothing in them."""
    if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
        raise ValueError("a conversation without an answer by the assistant")
    return messages


def _turn(turn: Any) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise ValueError(f"{shown(turn)} where a message should be")
    who = turn.get("role") or turn.get("from")
    if not isinstance(who, str) or who not in _ROLES:
        raise ValueError(f"a message by {who!r}; expected one of {', '.join(_ROLES)}")
    content = turn.get("content", turn.get("value"))
    if content is None and turn.get("tool_calls"):
        content = json.dumps(turn["tool_calls"], ensure_ascii=False)
    return {"role": _ROLES[who], "content": _content(content)}


def _content(content: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, list):
        parts = []
        for part in content:
            kind = str(part.get("type", "text")) if isinstance(part, dict) else "text"
            text = part.get("text") or part.get("value") if isinstance(part, dict) else part
            if not isinstance(text, str) or any(kind.startswith(m) for m in _MEDIA):
                raise ValueError(f"a message with a part of type {kind!r}, of which only texts are used")
            parts.append(text)
        return "\n".join(parts)
    if content is None:
        return ""
    if not isinstance(content, str):
        raise ValueError(f"{shown(content)} where a text should be")
    if "\0" in content:
        raise ValueError("NUL characters in a message")
    return content
