"""Image files, and folders of them."""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

from jichu.data.decode import UNREADABLE, Preprocess, decode_image, peek_image

from .cases import Broken
from .loading import loaded
from .mutations import spoil_bytes

_MODES = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("L", "P", "RGB"),
          "BMP": ("1", "L", "P", "RGB"), "WEBP": ("RGB", "RGBA", "L"), "PPM": ("1", "L", "RGB", "I;16"),
          "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16")}  # fmt: skip


def picture(rng):
    """An image as bytes, and the suffix that goes with it."""
    kind = rng.choice(list(_MODES))
    size = (rng.choice((1, 2, 7, 8, 31)), rng.choice((1, 3, 8, 33)))
    mode = rng.choice(_MODES[kind])
    noise = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    image = Image.new("I;16", size, rng.randrange(65536)) if mode == "I;16" else noise.convert(mode)
    options = {"TIFF": {"compression": rng.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"))},
               "GIF": {"save_all": True, "append_images": [image] * rng.randrange(3)},
               "JPEG": {"progressive": rng.random() < 0.3, "exif": _exif(rng)},
               "PNG": {"exif": _exif(rng)}}.get(kind, {})  # fmt: skip
    if options.get("compression") == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        options = {}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue(), rng.choice((f".{kind.lower()}", ".png", ".jpg"))


def _exif(rng):
    found = Image.Exif()
    found[0x0112] = rng.randrange(10)
    return found.tobytes()


def spoilt_picture(case):
    rng = case.rng
    content, suffix = picture(rng)
    if rng.random() < 0.12:
        return rng.choice(_bombs(case.canary)), suffix
    if rng.random() < 0.9:
        content = spoil_bytes(rng, content)
    if content[:4] == b"\x89PNG" and rng.random() < 0.6:
        content = _with_right_sums(content)
    return content, suffix


def _with_right_sums(png):
    """The damage in a PNG is not to be found by its checksums alone."""
    made, i = bytearray(png[:8]), 8
    while i + 12 <= len(png):
        size = min(struct.unpack(">I", png[i : i + 4])[0], len(png))
        body = png[i + 4 : i + 8 + size]
        made += png[i : i + 4] + body + struct.pack(">I", zlib.crc32(body))
        i += 12 + size
    return bytes(made) + png[i:]


@functools.cache
def _bombs(canary):
    """Headers that promise far more than there is, and programs that call themselves images."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def png(width, height, *chunks):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")

    zeros = zlib.compress(bytes(40_000_000), 9)
    deep = zlib.compress(zeros)
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 6) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in ((256, 60000), (257, 60000), (259, 1), (262, 1), (273, 8), (279, 2**32 - 1))
    )  # fmt: skip
    script = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file closefile\nshowpage\n%%EOF\n"
    )
    return [
        png(60_000, 60_000, chunk(b"IDAT", zeros)), png(2**31 - 1, 1, chunk(b"IDAT", b"")),
        png(8, 8, chunk(b"zTXt", b"a\x00\x00" + zeros), chunk(b"IDAT", zlib.compress(bytes(200)))),
        png(8, 8, chunk(b"iCCP", b"a\x00\x00" + zeros), chunk(b"IDAT", zlib.compress(bytes(200)))),
        png(13_000, 13_000, chunk(b"IDAT", deep)), png(0, 0), png(8, 8),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x00;",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6 99999999 99999999 255\n", b"P5 1 1 0\n", b"P5 " + b"9" * 6000 + b" 1 255\n", b"Pf 99999 99999 -1.0\n",
        tiff, b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(100), b"MM\x00*\x00\x00\x00\x08" + b"\xff" * 60,
        b"RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f" + b"\x9d\x01\x2a\xff\x3f\xff\x3f" * 9,
        script.encode(), b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%PDF-1.4\n", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40), b"SIMPLE  =                    T" + b" " * 3000,
        b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x01\x00 \x00\xff\xff\xff\xff\x16\x00\x00\x00", b"BLP2" + bytes(200),
        b"", b"\x00", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9",
    ]  # fmt: skip


def image(case):
    content, suffix = spoilt_picture(case)
    to = Preprocess(
        case.rng.choice((4, 8, 32)), case.rng.choice((1, 3)), case.rng.choice(("crop", "pad", "stretch"))
    )
    path = case.file(f"case{suffix}", content)
    outcome = "done"
    for step in (lambda: peek_image(path), lambda: decode_image(path, to), lambda: decode_image(content, to)):
        try:
            found = step()
            if isinstance(found, np.ndarray) and (found.shape, found.dtype) != (
                (to.channels, to.size, to.size),
                np.uint8,
            ):
                raise Broken(f"decoded to {found.dtype} {found.shape}")
        except UNREADABLE:
            outcome = "unreadable"
    return outcome


def image_folder(case):
    rng = case.rng
    for i in range(rng.randint(1, 4)):
        content, suffix = spoilt_picture(case) if rng.random() < 0.6 else picture(rng)
        name = rng.choice(("a", "b", "unlabelled", "train", "test", "日本", " ", "a b", "A"))
        case.file(f"data/{name}/{rng.choice(('', 'x/'))}{i}{suffix}", content)
    loaded(case, case.folder / "data")
