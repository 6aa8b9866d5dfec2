"""One sound, from a file, bytes or an array, to int16 [samples]."""

from __future__ import annotations

import io
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from jichu.core.errors import DataError

SUFFIXES = frozenset([".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au"])
UNREADABLE = (soundfile.SoundFileError, OSError, ValueError, TypeError, MemoryError, OverflowError)
DECODER = f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}"
_LOUDEST = 2**15 - 1
_HIGHEST = 16_000  # samples a second that are kept if nothing is said: what speech and most else needs
_SHORTEST, _LONGEST = 0.1, 10.0  # seconds within which a length is inferred
_COVERED = 0.95  # share of the sounds that such a length holds whole
_CLOSE = 1000  # of the ratio of two rates, as whole numbers: at most this
_MOST_CHANNELS = 64


class Sound(NamedTuple):
    """How a sound becomes a tensor; travels with a model so that it is served as it was trained."""

    rate: int  # samples a second
    samples: int

    @property
    def kind(self) -> str:
        """The column that it makes."""
        return "audio"

    @property
    def dtype(self) -> str:
        """Of its tensor."""
        return "int16"

    @property
    def shape(self) -> list[int]:
        """Of one row's tensor."""
        return [self.samples]

    @property
    def seconds(self) -> float:
        """How long each is."""
        return self.samples / self.rate

    def __str__(self) -> str:
        return f"sounds of {self.seconds:.4g} s at {self.rate:,} Hz"


class SoundHeader(NamedTuple):
    """What a sound says of itself before it is decoded; `nbytes` is None for one in memory."""

    rate: int
    frames: int
    channels: int
    format: str | None
    nbytes: int | None


def peek_sound(item: Any) -> SoundHeader:
    """The header. Raises one of UNREADABLE where it is no sound."""
    if (given := _array(item)) is not None:
        values, rate = given
        return SoundHeader(rate, len(values), values.shape[1], None, None)
    size = len(item) if isinstance(item, (bytes, bytearray)) else Path(item).stat().st_size
    with _opened(item) as file:
        return SoundHeader(file.samplerate, file.frames, file.channels, file.format, size)


def decode_sound(item: Any, to: Sound) -> np.ndarray:
    """int16 [samples]: the mean of the channels, resampled; the middle of a longer one, and silence after a
    shorter one. Raises one of UNREADABLE for what cannot be decoded."""
    if (given := _array(item)) is not None:
        values, rate = given
        first, count = _middle(len(values), rate, to)
        values = values[first : first + count]
    else:
        with _opened(item) as file:
            rate = file.samplerate
            first, count = _middle(file.frames, rate, to)
            if first:
                file.seek(first)
            values = file.read(count, dtype="float32", always_2d=True)
    if not len(values):
        raise ValueError("it has no samples")
    if not np.isfinite(values).all():
        raise ValueError("it holds what is not finite")
    wave = _resampled(values.mean(1), rate, to.rate)[: to.samples]
    loudest = np.abs(wave).max()
    scaled = wave * (_LOUDEST / max(1.0, loudest))  # what is louder than a file can be is made less loud
    found = np.zeros(to.samples, np.int16)
    found[: len(wave)] = np.round(scaled).astype(np.int16)
    return found


def _middle(frames: int, rate: int, to: Sound) -> tuple[int, int]:
    """The first and the number of the samples that are used."""
    wanted = math.ceil(to.samples * rate / to.rate)
    return max(0, (frames - wanted) // 2), wanted


def _resampled(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return wave
    from scipy.signal import resample_poly  # here, because it takes long to import

    ratio = Fraction(wanted, rate).limit_denominator(_CLOSE)
    if not ratio:
        raise ValueError(f"its rate of {rate:,} Hz is too far from {wanted:,}")
    return resample_poly(wave, ratio.numerator, ratio.denominator)


def _array(item: Any) -> tuple[np.ndarray, int] | None:
    """Samples [n, channels] from -1 to 1 and their rate, of (samples [n] or [n, channels], rate), or of a dict with
    `array` and `sampling_rate`, as `datasets` gives it; None for what is to be read as a file."""
    if isinstance(item, dict) and {"array", "sampling_rate"} <= set(item):
        item = item["array"], item["sampling_rate"]
    if item is None:
        raise ValueError("no sound in this row")
    if not isinstance(item, tuple):
        if hasattr(item, "__array__"):
            raise ValueError("samples without their rate")
        return None
    values, rate = np.asarray(item[0]), int(item[1])
    if values.ndim not in (1, 2) or values.dtype.kind not in "if" or rate < 1:
        raise ValueError(f"an array {list(values.shape)} of {values.dtype} at {rate} Hz is no sound")
    full = np.iinfo(values.dtype).max if values.dtype.kind == "i" else 1
    return values.reshape(len(values), -1).astype(np.float32) / full, rate


class _Buffer(io.BytesIO):
    """Bytes in which a damaged file may look for what lies before their beginning, which would be told on the terminal."""

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(max(0, base + offset))


def _opened(item: Any) -> soundfile.SoundFile:
    if isinstance(item, (bytes, bytearray)):
        if not item:
            raise ValueError("it is empty")
        item = _Buffer(item)
    elif not os.path.isfile(item):  # also what could be read without end, such as a device
        raise ValueError(f"there is no file {item}")
    elif not os.path.getsize(item):
        raise ValueError("it is empty")
    try:
        file = soundfile.SoundFile(item)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a sound in a format libsndfile opens ({error.error_string})") from None
    if file.channels > _MOST_CHANNELS:
        file.close()
        raise ValueError(f"it has {file.channels} channels, and a sound {_MOST_CHANNELS} at most")
    return file


def infer_sound(
    found: Iterable[SoundHeader], rate: int | str, seconds: float | str, where: str = ""
) -> Sound:
    """Fill in `auto` from the sounds' headers: the most frequent rate up to 16 kHz, and a length that holds
    95% of them whole, from 0.1 to 10 seconds."""
    found = [h for h in found if h.frames > 0]
    if not found and not (isinstance(rate, int) and not isinstance(seconds, str)):
        raise DataError(
            "none of the sounds can be read", where=where,
            expected="at least one in a format libsndfile opens: wav, flac, ogg, mp3",
        )  # fmt: skip
    rates = Counter(h.rate for h in found)
    wanted = rate if isinstance(rate, int) else min(_HIGHEST, max(rates, key=lambda r: (rates[r], r)))
    lengths = sorted(h.frames / h.rate for h in found)
    if isinstance(seconds, str):
        long = lengths[min(len(lengths) - 1, math.ceil(_COVERED * len(lengths)) - 1)]
        seconds = max(_SHORTEST, min(_LONGEST, math.ceil(10 * long - 1e-6) / 10))
    return Sound(wanted, max(1, round(seconds * wanted)))


def write_sound(path: Path, samples: np.ndarray, how: Sound) -> None:
    """Write int16 [samples] as a WAV file."""
    with open(path, "wb") as file:
        soundfile.write(file, samples, how.rate, format="WAV")


def about_sounds(headers: list[SoundHeader]) -> dict[str, Any]:
    """Of some sounds: how many, seconds and bytes as [least, median, most], rates, channels and formats."""
    seconds = [h.frames / h.rate for h in headers]
    sizes = [h.nbytes for h in headers if h.nbytes is not None]
    return {
        "looked_at": len(headers),
        "seconds": [min(seconds), statistics.median(seconds), max(seconds)],
        "bytes": [min(sizes), int(statistics.median(sizes)), max(sizes)] if sizes else None,
        "rates": dict(Counter(h.rate for h in headers).most_common()),
        "channels": dict(Counter(h.channels for h in headers).most_common()),
        "formats": dict(Counter(h.format or "in memory" for h in headers).most_common()),
    }
