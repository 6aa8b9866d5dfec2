"""Texts in the form of the OpenAI API, whole or in pieces as they are written."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from jichu.core.files import dumps

from .errors import BROKEN, Refused, as_json, content
from .forms import ChatRequest, CompletionRequest, Message
from .items import refuse_long
from .models import Served
from .writer import Text, Writer

_FINISHED = {"end": "stop", "stop": "stop", "most": "length"}


def prompts(asked: CompletionRequest | ChatRequest, served: Served) -> Sequence[str | list[int]]:
    """The prompts of a request. 400 where the model does not talk, 413 where one is too long."""
    if isinstance(asked, ChatRequest):
        served.whole.require_chat()
        said = [{"role": _role(m.role), "content": _content(m, i)} for i, m in enumerate(asked.messages)]
        refuse_long(sum(len(message["content"]) for message in said), "messages")
        return [served.whole.tokenizer.chat(said, prompt=True)[0]]
    for i, prompt in enumerate(asked.prompts):
        refuse_long(len(prompt), f"prompt.{i}" if isinstance(asked.prompt, list) else "prompt")
    return asked.prompts


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _content(message: Message, place: int) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = [part.get("text") for part in message.content if part.get("type") == "text"]
    if len(texts) != len(message.content) or not all(isinstance(text, str) for text in texts):
        raise Refused(
            400, "a message with something else than text; expected parts {\"type\": \"text\", \"text\": …}",
            param=f"messages.{place}.content", code="invalid_request",
        )  # fmt: skip
    return "".join(map(str, texts))


class Answer:
    """The texts that a request asks for, `n` for each prompt, within so many seconds; `told` is what is to be logged."""

    def __init__(
        self, asked: CompletionRequest | ChatRequest, served: Served, writer: Writer, id: str, seconds: float,
        told: dict[str, Any],
    ):  # fmt: skip
        self.asked, self.served, self.writer, self.told = asked, served, writer, told
        self._end = asyncio.get_running_loop().time() + seconds
        self.chat = isinstance(asked, ChatRequest)
        self.created, self.texts = int(time.time()), list[Text]()
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{id}"
        self._pieces: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._read = 0  # tokens

    def prepare(self) -> None:
        """Read the prompts. UsageError where one does not fit."""
        asked = self.asked
        most = getattr(asked, "max_completion_tokens", None) or asked.max_tokens
        seed = int.from_bytes(time.time_ns().to_bytes(8), "big") >> 1 if asked.seed is None else asked.seed
        penalty = 1.0 if asked.repetition_penalty is None else asked.repetition_penalty
        for prompt in prompts(asked, self.served):
            for draw in range(asked.n or 1):
                text = Text(len(self.texts), self._pieces)
                row = self.writer.row(
                    text, prompt, most=most, temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p,
                    repetition_penalty=penalty, stop=asked.stops, seed=(seed + len(self.texts)) % 2**63,
                )  # fmt: skip
                self.texts.append(text)
                self._read += 0 if draw else len(row.prompt)

    def begin(self) -> None:
        """Let the texts be written. Busy where too many wait."""
        self.writer.write(self.texts)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for text in self.texts:
            if text.row is not None:
                text.row.cancelled = True

    @property
    def usage(self) -> dict[str, int]:
        """Tokens that were read and written."""
        written = sum(len(text.row.telling.ids) for text in self.texts if text.row is not None)
        return {
            "prompt_tokens": self._read, "completion_tokens": written, "total_tokens": self._read + written,
        }  # fmt: skip

    async def whole(self) -> Response:
        """All texts when they have ended."""
        written = [""] * len(self.texts)
        async for i, piece in self._come():
            written[i] += piece or ""
        choices = [self._choice(i, text, _reason(self.texts[i])) for i, text in enumerate(written)]
        return as_json(
            self._about("chat.completion" if self.chat else "text_completion", choices, usage=self.usage)
        )

    async def _come(self) -> AsyncIterator[tuple[int, str | None]]:
        """The pieces of all texts as they come, and None at the end of each; raises what goes wrong."""
        left = len(self.texts)
        while left:
            try:
                if asyncio.get_running_loop().time() > self._end:  # as where a client reads slowly
                    raise TimeoutError
                async with asyncio.timeout_at(self._end):
                    i, piece = await self._pieces.get()
            except TimeoutError:
                raise Refused(504, "the text was not written in time", code="timeout") from None
            if isinstance(piece, Exception):
                raise piece
            left -= piece is None
            yield i, piece

    def stream(self, over: contextlib.ExitStack) -> Response:
        """The pieces as they come, as server-sent events; `over` is closed when they have ended."""
        return StreamingResponse(
            self._events(over), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )

    async def _events(self, over: contextlib.ExitStack) -> AsyncIterator[str]:
        with over:
            try:
                if self.chat:
                    for i in range(len(self.texts)):
                        yield self._event([self._delta(i, {"role": "assistant", "content": ""}, None)])
                async for i, piece in self._come():
                    said = {} if piece is None else {"content": piece}
                    reason = _reason(self.texts[i]) if piece is None else None
                    yield self._event([self._delta(i, said if self.chat else piece or "", reason)])
                if (self.asked.stream_options or {}).get("include_usage"):
                    yield self._event([], usage=self.usage)
            except Refused as error:
                yield _line(content(error))
            except Exception as error:
                self.told["error"] = "".join(traceback.format_exception(error))
                yield _line(content(BROKEN))
            yield "data: [DONE]\n\n"

    def _event(self, choices: list[Any], **more: Any) -> str:
        return _line(
            self._about("chat.completion.chunk" if self.chat else "text_completion", choices, **more)
        )

    def _about(self, kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.served.name,
            "system_fingerprint": self.served.version, "choices": choices, **more,
        }  # fmt: skip

    def _choice(self, i: int, text: str, reason: str | None) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {"index": i, **said, "logprobs": None, "finish_reason": reason}

    def _delta(self, i: int, piece: Any, reason: str | None) -> dict[str, Any]:
        return {
            "index": i,
            "delta" if self.chat else "text": piece,
            "logprobs": None,
            "finish_reason": reason,
        }


def _line(value: Any) -> str:
    return f"data: {dumps(value)}\n\n"


def _reason(text: Text) -> str | None:
    return _FINISHED[text.row.telling.ended] if text.row is not None and text.row.telling.ended else None
