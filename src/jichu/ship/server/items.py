"""What a request holds, as a run takes it. Files are never opened: what comes over the network names none."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from jichu.core.errors import shown
from jichu.data.decode import UNREADABLE as NO_IMAGE
from jichu.data.decode import peek_image
from jichu.data.sound import UNREADABLE as NO_SOUND
from jichu.data.sound import peek_sound

from .errors import Refused

if TYPE_CHECKING:
    from jichu.runs import Run
    from jichu.ship.onnx_model import OnnxModel

MOST = {  # of one, and of all in a request
    "image": (2**25, 2**28, "pixels"),  # 33 million, a photograph
    "audio": (2**28, 2**29, "samples"),  # over the channels: an hour at 48 kHz
}
_CHARACTERS = 2**20  # of a text
_DEEPEST = 64  # levels of JSON
VALUE = 128  # bytes of memory for a value of JSON, be it written with two characters
MEDIA = ("image/", "audio/", "application/octet-stream")


def kind(run: Run | OnnxModel) -> str:
    """What a run's model reads: text, image, audio, series or table."""
    config = run.config
    if config.text is not None:
        return "text"
    media = config.image or config.audio
    if media is not None and config.table is None:
        return media.kind
    return "series" if config.series is not None else "table"


def weight(body: bytes) -> int:
    """Bytes of memory that the values of JSON take at most, from the marks between them; those in texts count too."""
    return VALUE * sum(map(body.count, (b",", b"[", b"{")))


def parsed(body: bytes) -> Any:
    """JSON as Python values. 400 for what is none, or is nested too deeply to be walked."""
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise Refused(400, f"JSON of more than {_DEEPEST} levels", code="invalid_json") from None
    except ValueError as error:
        raise Refused(400, f"not valid JSON: {error}", code="invalid_json") from None
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        if not (level := [inner for value in level for inner in _inside(value)]):
            return found
    raise Refused(400, f"JSON of more than {_DEEPEST} levels", code="invalid_json")


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON; null stands for what is missing")


def of_json(given: list[Any], run: Run | OnnxModel, where: str = "inputs") -> list[Any]:
    """Items as `run.inputs` takes them: texts (or pairs), rows of tables as objects, images and sounds as base64."""
    what = kind(run)
    if what in ("table", "series"):
        return [
            _of_type(item, dict, "an object, {column: value}", f"{where}.{i}") for i, item in enumerate(given)
        ]
    if what == "text":
        assert run.config.text is not None
        return [_text(item, run.config.text.pair, f"{where}.{i}") for i, item in enumerate(given)]
    places = [f"{where}.{i}" for i in range(len(given))]
    return _media(
        [(place, _decoded(item, what, place)) for place, item in zip(places, given, strict=True)], what
    )


def of_parts(parts: list[tuple[str, bytes]], run: Run | OnnxModel) -> list[Any]:
    """The files of a form, whatever their fields are called."""
    if not parts:
        raise Refused(400, "a form without files", param="file", code="invalid_request")
    what = kind(run)
    if what == "text":
        pair = bool(run.config.text and run.config.text.pair)
        return [_text(_utf8(content, name), pair, name) for name, content in parts]
    if what not in MOST:
        raise Refused(
            415, f"a file for a model that reads rows of a {what}; expected JSON, {{\"inputs\": [{{…}}]}}",
            code="unsupported_media_type",
        )  # fmt: skip
    return _media(parts, what)


def of_body(body: bytes, run: Run | OnnxModel) -> list[Any]:
    """The one item that is a body: an image, a sound or a text in UTF-8."""
    return of_parts([("body", body)], run)


def _utf8(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refused(400, "a text that is not UTF-8", param=where, code="invalid_input") from None


def _of_type(item: Any, of: type, expected: str, where: str) -> Any:
    if not isinstance(item, of):
        raise Refused(
            400, f"{where}: found {shown(item)}; expected {expected}", param=where, code="invalid_input"
        )
    return item


def _text(item: Any, pair: bool, where: str) -> Any:
    if pair:
        two = _of_type(item, list, "two texts", where)
        if len(two) != 2 or not all(isinstance(text, str) for text in two):
            raise Refused(
                400, f"{where}: found {shown(item)}; expected two texts", param=where, code="invalid_input"
            )
        return tuple(_text(text, False, where) for text in two)
    text = _of_type(item, str, "a text", where)
    refuse_long(len(text), where)
    return text


def refuse_long(characters: int, where: str) -> None:
    """413 for more characters (or tokens) than a text may have."""
    if characters > _CHARACTERS:
        raise Refused(
            413, f"{where}: a text of {characters:,} characters; expected {_CHARACTERS:,} at most", param=where,
            code="input_too_large",
        )  # fmt: skip


def _decoded(item: Any, what: str, where: str) -> bytes:
    """The bytes of base64, alone or in a data URL."""
    expected = f"{'an image' if what == 'image' else 'a sound'} in base64"
    text = _of_type(item, str, expected, where)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            400, f"{where}: no base64; expected {expected}", param=where, code="invalid_input"
        ) from None


def _media(encoded: list[tuple[str, bytes]], what: str) -> list[bytes]:
    """The bytes, if what they say of themselves is not too large to be decoded, alone and together."""
    one, together, unit = MOST[what]
    all_of_them = 0
    for where, content in encoded:
        size = _size(content, what, where)
        all_of_them += size
        for found, most, of in ((size, one, ""), (all_of_them, together, " so far")):
            if found > most:
                told = f"{where}: {found:,} {unit}{of}; expected {most:,} at most"
                raise Refused(413, told, param=where, code="input_too_large")
    return [content for _, content in encoded]


def _size(encoded: bytes, what: str, where: str) -> int:
    """How many pixels or samples."""
    try:
        if what == "image":
            header = peek_image(encoded)
            return header.width * header.height
        sound = peek_sound(encoded)
        return sound.frames * sound.channels
    except (*NO_IMAGE, *NO_SOUND) as error:
        named = "an image" if what == "image" else "a sound"
        raise Refused(400, f"{where}: not {named}: {error}", param=where, code="invalid_input") from None
