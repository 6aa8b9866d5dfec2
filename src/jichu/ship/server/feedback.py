"""Right answers that people tell, kept for the next training."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response

from jichu.core.errors import DiskFull, nearest
from jichu.core.files import append_jsonl, dumps, fingerprint, flush, replacing
from jichu.data import requests
from jichu.data.media import KINDS
from jichu.data.personal import without
from jichu.data.target import Target

from . import items
from .document import asks
from .errors import Refused, as_json
from .forms import FeedbackRequest
from .settings import Settings

if TYPE_CHECKING:
    from .models import Served
    from .service import Service

_LARGEST = 3e38  # that a float32 holds


class Feedback:
    """The corrections of one model's answers: a line each, there whatever happens to the power once it is answered."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self._settings, self._lock = folder, settings, threading.Lock()
        self._file = folder / requests.FEEDBACK
        self._mend()
        files = [self._file, *(folder / requests.INPUTS).glob("*")]
        self._held = sum(file.stat().st_size for file in files if file.exists())

    def _mend(self) -> None:
        """A line that a killed server left half-written goes: nobody was told that it is kept."""
        if self._file.exists():
            whole = self._file.read_bytes()
            if not whole.endswith(b"\n"):
                with open(self._file, "r+b") as file:
                    file.truncate(whole.rfind(b"\n") + 1)

    def add(self, line: dict[str, Any], encoded: bytes | None) -> None:
        """Append a line, with the file of an image or a sound that goes with it. 507 where there is no more room."""
        text = dumps(line).encode("utf-8", "replace")  # halves of surrogate pairs are no UTF-8
        with self._lock:
            size = len(encoded or b"") + len(text)
            if self._held + size > self._settings.keep_most * 2**20:
                raise Refused(507, "no more room for feedback; keep_most says how much", code="feedback_full")
            try:
                if encoded is not None:
                    self._put(line["input"]["file"], encoded)
                begun = self._file.exists()
                append_jsonl(self._file, [json.loads(text)])
                flush(self._file)
                if not begun:  # its name too
                    flush(self.folder)
                self._held += size
            except (DiskFull, OSError):
                self._mend()
                raise Refused(
                    507, "the disk is full, or cannot be written to", code="feedback_full"
                ) from None

    def _put(self, name: str, encoded: bytes) -> None:
        with replacing(self.folder / requests.INPUTS / name, len(encoded)) as temporary:
            temporary.write_bytes(encoded)


def add(app: FastAPI, service: Service) -> None:
    """The path, where a folder is kept."""

    @app.post(
        "/v1/feedback", summary="The right answer to what was asked", openapi_extra=asks(FeedbackRequest)
    )
    async def feedback(request: Request) -> Response:
        asked = await service.read(request, FeedbackRequest)
        with service.using(request, asked.model) as served:
            line: dict[str, Any] = {
                requests.TIME: datetime.now(UTC).isoformat(), requests.REQUEST: asked.request,
                requests.ROW: asked.row if asked.request else None, requests.VERSION: served.version,
                "answer": _right(asked.answer, served, service.settings.new_classes), "note": asked.note and without(asked.note),
            }  # fmt: skip
            encoded: bytes | None = None
            if asked.input is None:
                _refuse_lost(asked, served, service.settings)
            else:
                line["input"], encoded = await service.aside(request, _read, served, asked.input)
            keeper = service.keeper
            assert keeper is not None
            await service.wait(request, service.apart(keeper.feedback[served.name].add, line, encoded))
            return as_json({"model": served.name, "saved": True, "answer": line["answer"]})


def _refuse_lost(asked: FeedbackRequest, served: Served, settings: Settings) -> None:
    """400 for a request whose input nobody has."""
    if asked.request is None:
        raise Refused(
            400, "neither a request nor an input; expected one", param="input", code="invalid_request"
        )
    told = None
    if not requests.sampled(asked.request, asked.row, settings.sample):
        told = f"row {asked.row} of that request is not among the share that is kept"
    elif served.kind in KINDS and settings.keep_media != "whole":
        told = f"{served.kind}s are not kept whole"
    if told:
        raise Refused(400, f"{told}; expected the input itself too", param="input", code="input_not_kept")


def _read(served: Served, given: Any) -> tuple[Any, bytes | None]:
    """An input as it is kept, once the model was found to be able to read it; and the bytes of an image or a sound."""
    if served.kind == "series":
        raise Refused(
            400, "a model of series learns from no single row", param="input", code="invalid_request"
        )
    found = items.of_json([given], served.run, "input")
    if served.run.joins:
        served.run.inputs(found)
    (item,) = found
    if served.kind in KINDS:
        return {"file": fingerprint(item)}, item
    if served.kind == "table":
        assert served.run.config.table is not None
        return {name: _hidden(item.get(name)) for name in served.run.config.table.kinds}, None
    return [without(text) for text in ([item] if isinstance(item, str) else item)], None


def _hidden(value: Any) -> Any:
    return without(value) if isinstance(value, str) else value


def _right(answer: Any, served: Served, new: bool) -> dict[str, Any]:
    """The answer by column. 400 where it is none to what the model was asked."""
    targets = {target.column: target for target in served.run.targets.values()}
    if not targets:
        raise Refused(400, "a model that predicts nothing", param="model", code="invalid_request")
    given = answer if isinstance(answer, dict) else {next(iter(targets)): answer}
    if other := next((column for column in given if column not in targets), None):
        raise _wrong(
            f"{other[:100]!r} is not predicted", f"one of {', '.join(targets)}", nearest(other, targets)
        )
    if not given:
        raise _wrong("an answer of nothing", f"one of {', '.join(targets)}")
    return {column: _checked(value, targets[column], new) for column, value in given.items()}


def _checked(value: Any, target: Target, new: bool) -> Any:
    if target.task in ("regression", "forecast"):
        number = not isinstance(value, bool) and isinstance(value, (int, float)) and abs(value) < _LARGEST
        if not number or target.task == "forecast":
            raise _wrong(f"{target.column}: no number", "a number")
        return value
    if target.task == "multilabel":
        if not isinstance(value, list):
            raise _wrong(f"{target.column}: no list", "a list of tags")
        return [_class(tag, target, new) for tag in value]
    if target.task == "text":
        if not isinstance(value, str):
            raise _wrong(f"{target.column}: no text", "a text")
        return without(value)
    return _class(value, target, new)


def _class(value: Any, target: Target, new: bool) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise _wrong(f"{target.column}: no class", f"one of {', '.join(target.classes[:20])}")
    if value not in target.classes and not new:
        told = f"{target.column}: there is no class {value[:100]!r}"
        raise _wrong(told, f"one of {', '.join(target.classes[:20])}", nearest(value, target.classes))
    return value


def _wrong(told: str, expected: str, near: str | None = None) -> Refused:
    hint = f"; did you mean {near}?" if near else ""
    return Refused(400, f"{told}; expected {expected}{hint}", param="answer", code="invalid_answer")
