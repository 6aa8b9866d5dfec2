"""Images as they were decoded, as pictures to be shown."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor


def picture(image: Tensor) -> Image.Image:
    """uint8 [C, H, W] as an image."""
    array = image.numpy().transpose(1, 2, 0)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def png(image: Tensor, side: int | None = None) -> bytes:
    """uint8 [C, H, W] as a PNG file, of so many pixels a side at most."""
    made = picture(image)
    if side is not None:
        made.thumbnail((side, side))
    file = io.BytesIO()
    made.save(file, "PNG")
    return file.getvalue()
