"""Rows of data as people look at them: what they say or show, and what is known of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from torch import Tensor

from jichu.data.dataset import Dataset
from jichu.data.pictures import picture, png
from jichu.data.schema import TableSchema
from jichu.data.sound import Sound
from jichu.data.texts import text_of, to_read
from jichu.data.truth import values_of

CHARACTERS, COLUMNS = 4000, 500  # of a text, and of a table's row, that are shown
_SIDE = 96  # pixels of a thumbnail at most


@dataclass(frozen=True)
class Example:
    """A row: its number in the data, its split, what its file is called, and by column what is known of its targets.
    `texts` and `cells` ({column: value}) are `cut` where they are long; `image` is uint8 [C, H, W], of a sound what
    it looks like, and `sound` int16 [samples] at a `rate`."""

    row: int
    split: str
    record: str
    truth: dict[str, Any]
    texts: tuple[str, ...] = ()
    cells: dict[str, Any] | None = None
    cut: bool = False
    image: Tensor | None = None
    sound: Tensor | None = None
    rate: int = 0

    def png(self, side: int | None = _SIDE) -> bytes | None:
        """The picture, of so many pixels a side at most; None where there is none."""
        return None if self.image is None else png(self.image, side)

    def wav(self) -> bytes | None:
        """The sound; None where there is none."""
        return None if self.sound is None else wav(self.sound, self.rate)

    def plain(self, whole: bool = False) -> dict[str, Any]:
        """Ready for JSON, without the name of any file: pictures and sounds as data: addresses, the former small and the
        latter left out if not `whole`."""
        told: dict[str, Any] = {"row": self.row, "split": self.split, "truth": self.truth}
        if self.texts:
            told["texts"] = list(self.texts)
        if self.cells is not None:
            told["cells"] = self.cells
        if self.texts or self.cells is not None:
            told["cut"] = self.cut
        if (encoded := self.png(None if whole else _SIDE)) is not None:
            told["image"] = address(encoded, "image/png")
        if whole and (encoded := self.wav()) is not None:
            told["sound"] = address(encoded, "audio/wav")
        return told


def address(encoded: bytes, kind: str) -> str:
    """A data: address."""
    return f"data:{kind};base64,{base64.b64encode(encoded).decode()}"


def wav(samples: Tensor, rate: int) -> bytes:
    """A sound int16 [samples] as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples.numpy(), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def examples(dataset: Dataset, rows: Tensor, splits: list[str]) -> list[Example]:
    """Some rows, which are in these splits."""
    how, truth = dataset.preprocess, truths(dataset, rows)
    pictures = None if how is None else dataset.pictures(rows)
    sounds, rate = (dataset.tensors["audio"][rows], how.rate) if isinstance(how, Sound) else (None, 0)
    cells = _cells(dataset, rows)
    found = []
    for i, row in enumerate(rows.tolist()):
        texts, cut = _texts(dataset, row)
        shown, less = cells[i] if cells else (None, False)
        image, sound = (None if of is None else of[i] for of in (pictures, sounds))
        name, split = dataset.names[row], splits[i]
        found.append(Example(row, split, name, truth[i], texts, shown, cut or less, image, sound, rate))
    return found


_TABLE = ("numbers", "categories")


def truths(dataset: Dataset, rows: Tensor) -> list[dict[str, Any]]:
    """By column what is known of the targets of some rows."""
    found: list[dict[str, Any]] = [{} for _ in rows]
    for key, target in dataset.targets.items():
        if key in dataset.tensors and target.task != "forecast":
            values = values_of(target, dataset.tensors[key][rows], dataset.known(rows, key))
            for row, value in zip(found, values, strict=True):
                row[target.column] = value
    return found


def _cells(dataset: Dataset, rows: Tensor) -> list[tuple[dict[str, Any], bool]]:
    """The columns of some rows, and whether they are cut; nothing where there is no table."""
    if not dataset.table:
        return []
    tensors = {name: tensor[rows] for name, tensor in dataset.tensors.items() if name in _TABLE}
    found = []
    for whole in cells_of(dataset.table, tensors):
        few = {n: v[:CHARACTERS] if isinstance(v, str) else v for n, v in list(whole.items())[:COLUMNS]}
        found.append((few, few != whole))
    return found


def _texts(dataset: Dataset, row: int) -> tuple[tuple[str, ...], bool]:
    """The texts of a row, and whether they are cut."""
    # characters are four bytes at most; one more than are shown tells whether there are more
    held = [text_of(t, row, 4 * CHARACTERS + 1) for t in to_read(dataset.texts, dataset.chat).values()]
    return tuple(text[:CHARACTERS] for text in held), any(len(text) > CHARACTERS for text in held)


def cells_of(table: TableSchema, tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Rows of a table as they can be given to a model: numbers, names and times; None where there is nothing."""
    columns = {name: table.decode(name, tensors) for name in table.kinds}
    count = len(next(iter(tensors.values()))) if tensors else 0
    told = {
        name: [_cell(column.kind, value, column.classes) for value in column.values]
        for name, column in columns.items()
    }
    return [{name: values[i] for name, values in told.items()} for i in range(count)]


def _cell(kind: str, value: Any, classes: tuple[str, ...]) -> Any:
    if kind == "category":
        return classes[value] if value >= 0 else None
    if kind == "timestamp":
        return None if np.isnat(value) else str(value)
    return (
        None if np.isnan(value) else float(str(np.float32(value)))
    )  # with no more digits than it is kept with


def sprites(images: Tensor, most: int = 2**20) -> tuple[bytes, int, int] | None:
    """Pictures uint8 [N, C, H, W] as squares of one WebP file of `most` bytes at most, in rows: the file, how many
    are in a row, and how many pixels a side each has. None where there is no picture."""
    if not len(images):
        return None
    across = int(np.ceil(np.sqrt(len(images))))
    made = [picture(image).convert("RGB") for image in images]
    for side in (32, 24, 16, 12, 8, 4):
        sheet = Image.new("RGB", (across * side, -(-len(made) // across) * side))
        for i, one in enumerate(made):
            small = one.resize(
                (side, side), Image.Resampling.BOX if min(one.size) > side else Image.Resampling.NEAREST
            )
            sheet.paste(small, (i % across * side, i // across * side))
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=75)
        if file.tell() <= most:
            return file.getvalue(), across, side
    raise AssertionError("four pixels a side take less")
