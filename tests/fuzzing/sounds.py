"""Sound files, folders of them, and tables of series."""

import io
import struct

import numpy as np
import soundfile

import jichu
from jichu.data.sound import UNREADABLE, Sound, decode_sound, peek_sound

from .cases import Broken
from .loading import loaded
from .mutations import spoil_bytes

_KINDS = {"WAV": ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "GSM610"),
          "FLAC": ("PCM_16", "PCM_24", "PCM_S8"), "OGG": ("VORBIS", "OPUS"), "MP3": ("MPEG_LAYER_III",),
          "AIFF": ("PCM_16", "FLOAT"), "AU": ("PCM_16", "ULAW")}  # fmt: skip


def sound(rng):
    """A sound as bytes, and the suffix that goes with it."""
    kind = rng.choice(list(_KINDS))
    encoding = rng.choice(_KINDS[kind])
    rate = 48000 if encoding == "OPUS" else rng.choice((8000, 16000, 44100))
    channels = 1 if encoding == "GSM610" else rng.choice((1, 2))
    wave = np.frombuffer(rng.randbytes(4 * channels * rng.choice((1, 50, 3000))), np.int32).reshape(
        -1, channels
    )
    file = io.BytesIO()
    soundfile.write(file, wave / 2**31, rate, format=kind, subtype=encoding)
    return file.getvalue(), rng.choice((f".{kind.lower()}", ".wav", ".mp3"))


def _bombs():
    def wav(rate, channels, bits, size, code=1):
        head = struct.pack("<HHIIHH", code, channels, rate, 2**32 - 1, channels * bits // 8 % 65536, bits)
        return (
            b"RIFF\xff\xff\xff\xffWAVEfmt "
            + struct.pack("<I", 16)
            + head
            + b"data"
            + struct.pack("<I", size)
            + bytes(64)
        )

    return [
        wav(2**32 - 1, 1, 16, 2**32 - 1), wav(8000, 65535, 16, 2**31), wav(1, 1, 16, 64), wav(0, 1, 16, 64),
        wav(8000, 0, 16, 64), wav(8000, 1, 0, 64), wav(8000, 1024, 8, 2**32 - 1), wav(8000, 2, 16, 64, 65534),
        b"fLaC" + b"\x00\x00\x00\x22" + b"\xff" * 34, b"OggS" + b"\xff" * 60, b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(99),
        b"\xff\xfb\x90\x64" + b"\xff" * 400, b"FORM\xff\xff\xff\xffAIFFCOMM" + b"\xff" * 40, b".snd" + b"\xff" * 24, b"",
        b"RIFF", b"RIFX\x00\x00\x00\x00WAVE",
    ]  # fmt: skip


def spoilt_sound(case):
    rng = case.rng
    content, suffix = sound(rng)
    if rng.random() < 0.15:
        return rng.choice(_bombs()), suffix
    return (spoil_bytes(rng, content) if rng.random() < 0.9 else content), suffix


def one_sound(case):
    content, suffix = spoilt_sound(case)
    to = Sound(case.rng.choice((8000, 16000)), case.rng.choice((1, 100, 4000)))
    path = case.file(f"case{suffix}", content)
    outcome = "done"
    for step in (lambda: peek_sound(path), lambda: decode_sound(path, to), lambda: decode_sound(content, to)):
        try:
            found = step()
            if isinstance(found, np.ndarray) and (found.shape, found.dtype) != ((to.samples,), np.int16):
                raise Broken(f"decoded to {found.dtype} {found.shape}")
        except UNREADABLE:
            outcome = "unreadable"
    return outcome


def audio_folder(case):
    rng = case.rng
    for i in range(rng.randint(1, 4)):
        content, suffix = spoilt_sound(case) if rng.random() < 0.6 else sound(rng)
        name = rng.choice(("a", "b", "unlabelled", "train", "test", "日本", " "))
        case.file(f"data/{name}/{rng.choice(('', 'x/'))}{i}{suffix}", content)
    loaded(case, case.folder / "data")


def series(case):
    """A table of series: times with gaps, doubles and nonsense, numbers that are none."""
    rng = case.rng
    begin = np.datetime64("2030-01-01T00:00:00")
    times = [
        str(begin + np.timedelta64(rng.choice((1, 1, 1, 1, 2, 60)) * i, "h"))
        for i in range(rng.randint(0, 60))
    ]
    odd = ("", "nan", "1e400", "x", "-", "2030-13-45", "1970-01-01", "9999-12-31")
    rows = [
        ",".join(
            cell if rng.random() > 0.03 else rng.choice(odd)
            for cell in (time, f"{i % 7}", f"{i * 0.3:.2f}", "ab"[i % 2])
        )
        for i, time in enumerate(times)
    ]
    if rng.random() < 0.3:
        rng.shuffle(rows)
    path = case.file("data/s.csv", "\n".join(["date,a,b,by", *rows]).encode())
    how = {"context": rng.choice((1, 4, 30)), "horizon": rng.choice((1, 3, 20))}
    if rng.random() < 0.3:
        how["by"] = rng.choice(("by", "a", "date"))
    try:
        found = jichu.load(path, series=how, split={"test": rng.choice((0.0, 0.2, 0.5))})
    except jichu.JichuError:
        return "refused"
    for rows_ in found.splits.values():
        window, label = found.tensors["series"][rows_], found.tensors["label"][rows_]
        if window.shape[1:2] != (how["context"],) or label.shape[1:2] != (how["horizon"],):
            raise Broken(f"windows of {tuple(window.shape)} and {tuple(label.shape)}")
    return "done"
