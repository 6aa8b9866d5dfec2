"""Why a run's model says of an input what it says."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from jichu.auditing import explaining, figures
from jichu.auditing.explaining import drawing
from jichu.auditing.page import render
from jichu.core.config import Spec, check
from jichu.core.errors import JichuError, UsageError, unknown
from jichu.core.files import write_text
from jichu.core.words import named
from jichu.data.config import IN_MEMORY, SpectrogramConfig
from jichu.data.pictures import png
from jichu.data.spectrum import pictures, step
from jichu.data.splits import evenly
from jichu.data.target import Target
from jichu.data.tokenizer import Tokenizer
from jichu.exploring.examples import address
from jichu.models.model import Model

if TYPE_CHECKING:
    from jichu.runs import Run

_LETTERS = re.compile(r"[^\W_\u2e80-\U0003ffff]")  # of scripts that have spaces between words


@dataclass(frozen=True)
class Explanation:
    """What each place of an input is `worth` to the answer: [H, W] of an image; of a sound [frames, bands], or [T]
    hundredths of a second where the model hears waves; of a text and of a row of a table a number for each of the `places`.

    `scale` says of what the worths are shares: of the logit, of the probability, of the number, or of attention. `value` is
    the model's probability of `answer`, or the number.
    """

    input: str
    kind: str
    method: str
    column: str
    answer: str | None
    value: float
    scale: str
    worth: np.ndarray
    places: tuple[str, ...] = ()
    picture: Tensor | None = None  # uint8 [C, H, W]

    def top(self, most: int = 10) -> list[tuple[str, float]]:
        """The places that are worth most, for or against."""
        if not self.places:
            return []
        order = np.argsort(-np.abs(self.worth), kind="stable")[:most]
        return [(self.places[i], float(self.worth[i])) for i in order]

    @property
    def name(self) -> str:
        """Of a file about it."""
        path = Path(self.input)
        said = path.stem if self.picture is not None else path.name
        return re.sub(r"[^\w.-]+", "-", said[-60:]).strip("-.") or "input"

    @property
    def said(self) -> str:
        """The answer in words."""
        if self.answer is None:
            return f"{self.column} = {self.value:.5g}"
        return f"{self.column} = {self.answer}, {100 * self.value:.0f}%"

    def plain(self, picture: bool = False) -> dict[str, Any]:
        """Ready for JSON, with the picture as a data: address if that is wanted."""
        kept = ("input", "kind", "method", "column", "answer", "value", "scale")
        worth = self.worth.tolist()
        told = {**{key: getattr(self, key) for key in kept}, "places": list(self.places), "worth": worth}
        return told | (
            {"picture": address(png(self.picture), "image/png")}
            if picture and self.picture is not None
            else {}
        )

    def write(self, folder: str | Path, name: str | None = None) -> Path:
        """Draw it into a folder: a PNG of an image or a sound, SVG bars of a row, a page with a text."""
        folder, name = Path(folder), name or self.name
        folder.mkdir(parents=True, exist_ok=True)
        if self.picture is not None:
            path = folder / f"{name}.png"
            self._drawn().save(path)
        elif self.kind == "table":
            path = folder / f"{name}.svg"
            values = dict(zip(self.places, self.worth.tolist(), strict=True))
            write_text(path, figures.bars(values, f"{self.said}: {named(self.scale)}, {named(self.method)}"))
        else:
            path = folder / f"{name}.html"
            about = {"title": self.said, "method": named(self.method), "scale": named(self.scale)}
            render(path, "explanation.html.j2", text=drawing.marked(list(self.places), self.worth), **about)
        return path

    def _drawn(self) -> Any:
        assert self.picture is not None
        if self.kind == "image":
            return drawing.overlay(self.picture, self.worth)
        worth = self.worth if self.worth.ndim == 1 else self.worth.T[::-1]  # high pitches above
        return drawing.over_time(self.picture, worth)


def explain(
    run: Run, items: Any, method: str | dict[str, Any] | None = None, target: str | None = None,
    column: str | None = None, background: Any = None,
) -> list[Explanation]:  # fmt: skip
    """What each input's places are worth to the class `target` (the likeliest of each input if none), or to the number.
    `method` is a name, or a name with arguments as in a recipe; `column` the target, the first if none; of a table
    `background` is data that tell what is usual, the training rows if none."""
    run.require_head()
    if run.config.language or run.config.series is not None:
        raise UsageError(
            "forecasts and written texts are not explained",
            expected="a model of classes, of tags or of numbers",
        )
    asked = explaining.Asked(cast(Model, run.model), *_head(run, column), target)
    spec = None if method is None else check(Spec, {"name": method} if isinstance(method, str) else method)
    names, tensors, _ = run.inputs(items)
    if spec is not None:
        explaining.make(spec, explaining.kind_of(tensors))
    others: dict[str, Any] = {}
    if explaining.kind_of(tensors) == "table":
        others = {"table": run.config.table, **_usual(run, background)}
    view = functools.partial(explaining.view, asked, tensors, **others)
    found = explaining.attributed(view, torch.arange(len(names)), spec)
    return [one for some in found for one in _told(run, names, tensors, some)]


def _head(run: Run, column: str | None) -> tuple[str, Target]:
    columns = {target.column: key for key, target in run.targets.items()}
    if column is not None and column not in columns:
        raise unknown("target", column, columns)
    key = next(iter(columns.values())) if column is None else columns[column]
    return key, run.targets[key]


def _usual(run: Run, data: Any) -> dict[str, Any]:
    """Rows of a table that tell what is usual."""
    if data is not None:
        names, tensors, _ = run.inputs(data)
        return {
            "others": tensors,
            "background": evenly(torch.arange(len(names)), explaining.BACKGROUND),
        }
    if run.recipe.data.path == IN_MEMORY:
        raise UsageError("this run's data were given in memory", expected="background=…, some rows of them")
    try:
        dataset = run.reference()
    except JichuError as error:
        raise type(error)(
            "the run's own data, which would tell what is usual, cannot be read",
            where=Path(run.recipe.data.path), expected="they as they were, or background=…, some rows like them",
        ) from error  # fmt: skip
    return {
        "others": dataset.tensors,
        "background": evenly(dataset.splits["train"], explaining.BACKGROUND),
    }


def _told(
    run: Run, names: list[str], tensors: dict[str, Any], found: explaining.Attributed
) -> Iterator[Explanation]:
    """The explanation of each row."""
    view, method, target = found.view, found.method, found.view.asked.target
    number = target.task == "regression" and method.scale != "attention"
    free, values = view.free().numpy(), view.value().tolist()
    for i, row in enumerate(found.rows.tolist()):
        worth = found.worth[i].double().numpy()
        places = tuple(run.config.table.kinds) if run.config.table else ()
        if view.kind == "text":  # without padding and what the template puts around
            worth, places = worth[free[i]], pieces(run.tokenizer, view.batch["tokens"][i][free[i]].tolist())
        yield Explanation(
            names[row], view.kind, found.name, target.column,
            target.classes[view.chosen[i]] if target.classes else None, values[i],
            "number" if number else method.scale, worth, places, _picture(run, tensors, row),
        )  # fmt: skip


def _picture(run: Run, tensors: dict[str, Any], row: int) -> Tensor | None:
    """Of an image or a sound; of a sound without the silence that fills the last frames, where the model hears waves."""
    sound, config = run.config.audio, run.config.spectrogram
    if sound is None:
        return tensors["image"][row] if "image" in tensors else None
    drawn = pictures(tensors["audio"][row : row + 1], sound, config)[0]
    return drawn if config else drawn[..., : -(-sound.samples // step(sound, SpectrogramConfig()))]


def pieces(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, ...]:
    """What each token is written as, a space before it where it begins a word: one after the other they are the text."""
    written = [tokenizer.decode([i], special=True).removeprefix("##") for i in ids]
    begins = tokenizer.starts_word[ids].tolist()
    return tuple(
        f" {text}" if n and first and (_LETTERS.match(text) or ids[n] == tokenizer.special.unknown) else text
        for n, (text, first) in enumerate(zip(written, begins, strict=True))
    )
