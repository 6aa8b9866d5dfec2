"""A picture of what augmentation does to images: each operation a row, each image a column."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from jichu.core.errors import UsageError
from jichu.data.augment import Augment, to_float
from jichu.data.config import AugmentConfig, RandAugmentConfig, TrivialAugmentConfig
from jichu.objectives.base import Batch, Context, Objective
from jichu.objectives.cutmix import CutMix
from jichu.objectives.mixup import Mixup
from jichu.objectives.wrapper import Augmented

from .figures import picture

POLICIES = (RandAugmentConfig(), TrivialAugmentConfig())
_CELL = 64, 128  # fewest and most pixels of an image's side
_GAP, _TEXT = 4, 14


def strengths(channels: int, side: int) -> AugmentConfig:
    """For images of that kind: strong enough to be seen, weak enough to be used."""
    coloured = channels == 3
    return AugmentConfig(
        flip=True, flip_vertical=True, pad=min(256, max(1, side // 8)), rotate=30, translate=0.2, scale=[0.7, 1.4],
        shear=20, crop=0.3, colour=0.5, hue=0.3 * coloured, grey=0.5 * coloured,
        blur=min(100.0, side / 32), noise=0.1, erase=1.0,
    )  # fmt: skip


def operations(config: AugmentConfig) -> dict[str, AugmentConfig]:
    """Each operation that is asked for, alone, by what a recipe says for it."""
    said = config.model_dump(exclude_defaults=True, exclude={"fill", "policy", "table"})
    found = {
        f"{key}: {_written(value)}": AugmentConfig(**{key: value}, fill=config.fill)
        for key, value in said.items()
    }
    if config.policy:
        found[config.policy.name] = AugmentConfig(policy=config.policy, fill=config.fill)
    return found


def _written(value: object) -> str:
    """As it stands in a recipe, without the zeros of 30.0."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def gallery(
    images: Tensor, config: AugmentConfig | None = None, *, columns: int = 6, seed: int = 0
) -> Image.Image:
    """What each operation does to images uint8 [N, C, H, W], drawn anew in each of the columns.

    Shown are the operations of `config`; if it is not given all, mixup and CutMix among them, at
    `strengths`. A column shows one image, which comes again where there are fewer images than columns.
    """
    rows = torch.arange(columns)
    batch = {"image": images[rows * len(images) // columns], "row": rows}
    chosen = operations(config or strengths(images.shape[1], images.shape[2]))
    if config is None:
        chosen |= {policy.name: AugmentConfig(policy=policy) for policy in POLICIES}
    objectives: dict[str, Objective] = {
        name: Augmented(Objective(), Augment(c)) for name, c in chosen.items()
    }
    if config is None:
        objectives |= {"mixup": Mixup(Objective(), alpha=1.0), "cutmix": CutMix(Objective())}
    shown: dict[str, Batch] = {"as it is": batch}
    shown |= {name: objective.prepare(batch, Context(seed)) for name, objective in objectives.items()}
    return _grid({name: to_float(made["image"]) for name, made in shown.items()})


def _grid(rows: dict[str, Tensor]) -> Image.Image:
    cells = {name: [_cell(image) for image in images] for name, images in rows.items()}
    font = ImageFont.load_default(_TEXT)
    margin = math.ceil(max(font.getlength(name) for name in rows)) + 3 * _GAP
    first = next(iter(cells.values()))
    across, down = first[0].width + _GAP, first[0].height + _GAP
    made = Image.new("RGB", (margin + across * len(first), _GAP + down * len(cells)), "white")
    draw = ImageDraw.Draw(made)
    for i, (name, images) in enumerate(cells.items()):
        top = _GAP + i * down
        draw.text((margin - 2 * _GAP, top + (down - _GAP) // 2), name, "black", font, anchor="rm")
        for j, image in enumerate(images):
            made.paste(image, (margin + j * across, top))
    return made


def _cell(image: Tensor) -> Image.Image:
    least, most = _CELL
    made = picture((image * 255).round().to(torch.uint8), least)
    made.thumbnail((most, most))
    return made


def save(made: Image.Image, path: str | Path) -> None:
    """Write a picture as a PNG with a palette of 256 colours, a third of the size of one without;
    UsageError where the name is not that of a PNG."""
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"a picture cannot be written to {path}", expected="a name that ends in .png")
    palette = made.quantize(256, Image.Quantize.FASTOCTREE)
    made.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
