"""Tokenised texts as a column: encoded once, kept in the store, put together when a batch is made."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jichu.core.errors import DataError, UsageError
from jichu.core.files import aside, flush, read_json, write_json, writing
from jichu.core.progress import say, task

from .mapped import column
from .ragged import Ragged, places
from .tokenizer import Template, Tokenizer

_VERSION = 2  # of the form in which tokens are kept
_AT_ONCE = 2**16  # bytes of text between two writes
Part = list[np.ndarray]  # of some rows, what each column holds
Encode = Callable[[list[str]], tuple[Part, np.ndarray]]  # and how many of each row


class Tokens:
    """Texts [N], or pairs of texts, as token ids with the special tokens of a template around them.

    Stands beside dense tensors: `index_select(0, rows)` gives int64 [B, T], T being the longest of these
    rows and `windows` times `context` at most; -1 beyond a row's end. What is longer is cut at one side; of a pair the
    longer text first. An empty text is one token, `empty`. With `windows` a text has up to so many of
    `context` tokens each, one after the other, all but the last full, with special tokens of their own.
    """

    dtype = torch.int64

    def __init__(
        self, texts: Ragged, second: Ragged | None = None, *, template: Template, context: int,
        side: str = "right", empty: int = 0, windows: int = 1,
    ):  # fmt: skip
        special = sum(map(len, template))
        self._room = context - special
        if self._room <= 0:
            raise UsageError(
                f"a context of {context} tokens has no room beside {special} special ones",
                expected=f"more than {special}",
            )
        if windows > 1 and second is not None:
            raise UsageError("pairs of texts are not read in windows", where="data.windows", expected="1")
        self.texts, self.second, self.template, self.windows = texts, second, template, windows
        self.context, self.side, self.empty = context, side, empty
        whole = texts.lengths if second is None else texts.lengths + second.lengths
        self.longer = int((whole > self._room * windows).sum())  # than there is room for: they are cut
        kept = whole.clamp(max=self._room * windows)
        before = self._windows(kept) - 1
        self.lengths = (kept - before * self._room + special).clamp(min=1) + before * context

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, context: int, texts: Ragged, second: Ragged | None = None,
        template: Template | None = None, what: str = "texts", windows: int = 1, told: bool = True,
    ) -> Tokens:  # fmt: skip
        """As the tokenizer wants it, or with another template; `told` how many are cut."""
        special = tokenizer.special
        empty = next((i for i in (special.end, special.begin, special.unknown) if i is not None), 0)
        found = cls(
            texts, second, template=template or tokenizer.template(second is not None), context=context,
            side=tokenizer.settings.get("truncation_side", "right"), empty=empty, windows=windows,
        )  # fmt: skip
        if found.longer and told:
            end = "end" if found.side == "right" else "beginning"
            share, room = found.longer / len(found), f"{context} tokens"
            if windows > 1:
                room = f"{windows} windows of {room}"
            say(
                f"{found.longer:,} of {len(found):,} {what} ({share:.1%}) have more than {room};"
                f" they are cut at the {end}"
            )
        return found

    def of_other(self, texts: Ragged, second: Ragged | None = None) -> Tokens:
        """Other texts' tokens, read as these are."""
        return Tokens(
            texts, second, template=self.template, context=self.context, side=self.side, empty=self.empty,
            windows=self.windows,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def shape(self) -> torch.Size:
        """[N, longest]."""
        return torch.Size([len(self), int(self.lengths.max()) if len(self) else 0])

    def _windows(self, kept: Tensor) -> Tensor:
        return (-(-kept // self._room)).clamp(1, self.windows)

    def kept(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """How many tokens of the first and of the second text of each row there is room for."""
        first = self.texts.lengths[rows]
        if self.second is None:
            return first.clamp(max=self._room * self.windows), torch.zeros_like(first)
        second = self.second.lengths[rows]
        less = torch.minimum(first, second).clamp(max=self._room // 2)
        more = torch.minimum(torch.maximum(first, second), self._room - less)
        return torch.where(first > second, more, less), torch.where(first > second, less, more)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Some rows, as every tensor gives them."""
        first, second = self.kept(rows)
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(rows) else 0
        found = torch.full((len(rows), width), -1)
        flat, start = found.view(-1), torch.arange(len(rows)) * width
        flat[start] = self.empty  # written over where there is anything
        begin = self._begin(self.texts, rows, first)
        windows = self._windows(first)
        for window in range(int(windows.max()) if len(rows) else 0):
            here = windows > window
            done = window * self._room
            self._lay(
                flat, start[here] + window * self.context, begin[here] + done,
                (first[here] - done).clamp(max=self._room), rows[here], second[here],
            )  # fmt: skip
        return found

    def _begin(self, texts: Ragged, rows: Tensor, kept: Tensor) -> Tensor:
        """Where what is kept of some rows begins."""
        begin = texts.offsets[rows]
        return begin + texts.lengths[rows] - kept if self.side == "left" else begin

    def _lay(
        self, flat: Tensor, start: Tensor, begin: Tensor, first: Tensor, rows: Tensor, second: Tensor
    ) -> None:
        """Write a window of some rows: the template, the first texts' tokens from `begin` on, the second's."""
        before, between, after = self.template
        parts = [(before, self.texts, begin, first)]
        if self.second is not None:
            parts.append((between, self.second, self._begin(self.second, rows, second), second))
        for ids, texts, at, kept in parts:
            for token in ids:
                flat[start] = token
                start = start + 1
            flat[places(start, kept)] = texts.values[places(at, kept)].long()
            start = start + kept
        for token in after:
            flat[start] = token
            start = start + 1


class Second:
    """Which tokens of pairs belong to the second text and what follows it: 1, before it 0; a column beside
    them, -1 beyond a row's end."""

    dtype = torch.int64

    def __init__(self, tokens: Tokens):
        self.tokens, self.lengths, self.shape = tokens, tokens.lengths, tokens.shape

    def __len__(self) -> int:
        return len(self.tokens)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Some rows, of the shape of the tokens'."""
        before, between, _ = self.tokens.template
        begin = self.tokens.kept(rows)[0] + len(before) + len(between)
        lengths = self.lengths[rows]
        at = torch.arange(int(lengths.max()) if len(rows) else 0)
        return torch.where(at < lengths[:, None], (at >= begin[:, None]).long(), -1)


def prompted(tokenizer: Tokenizer) -> Template:
    """What stands around a prompt and its answer where a decoder learns to write the answer: the prompt as
    for itself, what parts two texts, the answer, the end."""
    before, between, _ = tokenizer.template(pair=True)
    end = () if tokenizer.special.end is None else (tokenizer.special.end,)
    return Template(before, between or end, end)


# --- encoded once


def tokenise(texts: Ragged, tokenizer: Tokenizer, folder: Path | None, name: str = "text") -> Ragged:
    """The ids of texts (UTF-8, uint8), without special tokens; kept in a folder under the name and the
    tokenizer's fingerprint, and read from there the next time. Without a folder in memory."""

    def encode(rows: list[str]) -> tuple[Part, np.ndarray]:
        ids, lengths = tokenizer.flat(rows)
        return [ids], lengths

    return _stored(texts, tokenizer, folder, name, {"tokens": _ids(tokenizer)}, encode)[0]


def tokenise_chats(
    texts: Ragged, tokenizer: Tokenizer, folder: Path | None, name: str = "text"
) -> tuple[Ragged, Ragged]:
    """The ids of conversations (JSON lists of messages) by the tokenizer's chat template, and with the same
    offsets which of them are answers, 0 or 1."""

    def encode(rows: list[str]) -> tuple[Part, np.ndarray]:
        made = [tokenizer.chat(json.loads(row)) for row in rows]
        ids, answers = ([v for chat in made for v in chat[i]] for i in (0, 1))
        lengths = np.array([len(chat[0]) for chat in made], np.int64)
        return [np.array(ids, np.int32), np.array(answers, np.uint8)], lengths

    columns = {"tokens": _ids(tokenizer), "answers": "uint8"}
    ids, answers = _stored(texts, tokenizer, folder, f"{name}-chat", columns, encode)
    return ids, answers


def corpus(texts: Ragged, rows: Tensor, most: int) -> Iterator[str]:
    """The texts of some rows, evenly spread where they have more than so many bytes."""
    size = int(texts.lengths[rows].sum())
    for row in rows[:: max(1, -(-size // most))].tolist():
        yield _text(texts[row])


def _text(values: Tensor) -> str:
    return values.numpy().tobytes().decode("utf-8", "replace")


def _ids(tokenizer: Tokenizer) -> str:
    return "uint16" if len(tokenizer) <= 2**16 else "int32"


def _stored(
    texts: Ragged, tokenizer: Tokenizer, folder: Path | None, name: str, columns: dict[str, str], encode: Encode
) -> list[Ragged]:  # fmt: skip
    """Columns of equal lengths, made of texts."""
    if folder is None:
        parts = list(_encoded(texts, encode))
        offsets = _offsets(part[1] for part in parts)
        values = [
            np.concatenate([np.empty(0, dtype), *(part[0][i] for part in parts)]).astype(dtype)
            for i, dtype in enumerate(columns.values())
        ]
        return [Ragged(torch.from_numpy(v), torch.from_numpy(offsets)) for v in values]
    place = folder / f"tokens-{name}-{tokenizer.fingerprint}-{_VERSION}"
    found = _opened(place, columns)
    if found is None:
        _write(place, columns, _encoded(texts, encode))
        found = _opened(place, columns)
    if found is None or len(found[0]) != len(texts):
        raise DataError("the tokens kept are not of these texts", where=place, expected="it deleted")
    return found


def _encoded(texts: Ragged, encode: Encode) -> Iterator[tuple[Part, np.ndarray]]:
    """What `encode` makes of the texts, about a megabyte of them at a time."""
    start, offsets = 0, texts.offsets
    with task("tokenise", len(texts)) as shown:
        while start < len(texts):
            end = int(torch.searchsorted(offsets, int(offsets[start]) + _AT_ONCE, right=True)) - 1
            end = min(max(end, start + 1), len(texts))
            data = texts.values[int(offsets[start]) : int(offsets[end])].numpy().tobytes()
            cuts = (offsets[start : end + 1] - offsets[start]).tolist()
            rows = [data[a:b].decode("utf-8", "replace") for a, b in itertools.pairwise(cuts)]
            yield encode(rows)
            shown.advance(end - start)
            start = end


def _offsets(lengths: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()


def _write(place: Path, columns: dict[str, str], parts: Iterable[tuple[Part, np.ndarray]]) -> None:
    shutil.rmtree(place, ignore_errors=True)  # a damaged one
    with writing(place), aside(place) as temporary:
        paths, lengths = [temporary / name for name in columns], []
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in paths]
            for part, count in parts:
                lengths.append(count)
                for file, values, dtype in zip(files, part, columns.values(), strict=True):
                    file.write(values.astype(dtype).data)
        offsets = _offsets(lengths)
        (temporary / "offsets").write_bytes(offsets.tobytes())
        for path in (*paths, temporary / "offsets"):
            flush(path)
        write_json(temporary / "tokens.json", {"rows": len(offsets) - 1, "total": int(offsets[-1])})
        try:
            os.replace(temporary, place)
        except OSError:
            if not place.exists():  # another process may have been quicker
                raise


def _opened(place: Path, columns: dict[str, str]) -> list[Ragged] | None:
    """What is kept there; None where nothing is, or it is damaged."""
    try:
        about = read_json(place / "tokens.json", ("rows", "total"))
        offsets = column(place / "offsets", about["rows"] + 1, "int64", [])
        if not about["total"]:
            return [Ragged(torch.empty(0, dtype=getattr(torch, d)), offsets) for d in columns.values()]
        return [
            Ragged(column(place / name, about["total"], dtype, []), offsets)
            for name, dtype in columns.items()
        ]
    except (OSError, DataError, ValueError):
        return None
