"""What a recipe may say about data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from jichu.core.config import Config, Named

IN_MEMORY = "(in memory)"  # the path of data that were given as objects

Fraction = Annotated[float, Field(ge=0, lt=1)]


Kind = Literal["number", "category", "timestamp", "text", "tags", "image", "ignore"]


class ColumnConfig(Config):
    """What a column is, where that was not found rightly. `age: number` is short for `age: {type: number}`."""

    type: Kind | None = None
    missing: list[str] = Field([], description="further cells that mean: not known")
    rename: dict[str, str] = Field({}, description="cells to be read as others, {found: meant}")
    separator: str = Field("|", min_length=1, description="between the tags of a cell, for the type tags")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


class SplitConfig(Config):
    """Shares of the rows held out, where the source does not already hold some out."""

    test: Fraction = 0.2
    validation: Fraction = 0.0
    group: str | None = Field(None, description="a column whose equal values stay in one split (a patient)")
    time: str | None = Field(None, description="a column by which the latest rows are held out")

    @model_validator(mode="after")
    def _leaves_something(self) -> SplitConfig:
        if self.test + self.validation >= 1:
            raise ValueError("test + validation leave nothing to train on; expected a sum below 1")
        if self.group and self.time:
            raise ValueError("group and time are both given; expected one of them")
        return self


class DataConfig(Config):
    """Where the data are and how they are decoded, cleaned and split."""

    path: str = Field(min_length=1, description="a folder, a file or a data set of scikit-learn's")
    reader: Named | None = Field(
        None, description="a reader's name or import path; found by itself if not given"
    )
    target: str | list[str] | None = Field(
        None, description="the column to predict, or several; label, target, class or y if not given"
    )
    columns: dict[str, ColumnConfig] = Field(
        {}, description="types to correct, such as {zip: category, notes: ignore}"
    )
    weight: str | None = Field(None, description="a column of row weights")
    size: Annotated[int, Field(ge=4, le=4096)] | Literal["auto"] = Field(
        "auto", description="images are stored size × size pixels"
    )
    channels: Literal[1, 3, "auto"] = "auto"
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how an image that is not square becomes so"
    )
    split: SplitConfig = SplitConfig()
    labels_per_class: Annotated[int, Field(ge=1)] | None = Field(
        None, description="use only so many labels of each class, drawn at random; all if not given"
    )
    draws: Annotated[int, Field(ge=1)] = Field(
        1, description="how often the labels are drawn anew and everything after is repeated"
    )

    @model_validator(mode="after")
    def _draws_of_something(self) -> DataConfig:
        if self.draws > 1 and self.labels_per_class is None:
            raise ValueError("draws without labels_per_class; expected how many labels of each class to draw")
        return self


Degrees = Annotated[float, Field(ge=0, le=180)]
Share = Annotated[float, Field(ge=0, le=1)]


class RandAugmentConfig(Config):
    """So many operations of one strength, drawn for each image (Cubuk et al., 2019)."""

    name: Literal["randaugment"] = "randaugment"
    operations: Annotated[int, Field(ge=1, le=14)] = Field(2, description="how many for each image")
    magnitude: Annotated[float, Field(ge=0, le=10)] = Field(9.0, description="strength of each")


class TrivialAugmentConfig(Config):
    """One operation of a random strength for each image (Müller and Hutter, 2021)."""

    name: Literal["trivialaugment"] = "trivialaugment"


def _policy(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


PolicyConfig = Annotated[
    Annotated[RandAugmentConfig | TrivialAugmentConfig, Field(discriminator="name")],
    BeforeValidator(_policy),
]


class TableAugmentConfig(Config):
    """How far the number and category columns are changed at random; every change is off unless given."""

    noise: Annotated[float, Field(ge=0)] = Field(
        0.0, description="standard deviation of Gaussian noise, as a share of each number column's own"
    )
    swap: Share = Field(0.0, description="share of the cells that take the value of another row")
    mask: Share = Field(0.0, description="share of the cells that become missing")


class AugmentConfig(Config):
    """How far images are changed at random; every change is off unless given."""

    flip: bool = Field(False, description="left and right swapped in half of the images")
    flip_vertical: bool = Field(False, description="top and bottom swapped in half of the images")
    pad: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="pixels added on every side, then cut back to the old size at a random place"
    )
    rotate: Degrees = Field(0.0, description="degrees to either side")
    translate: Share = Field(0.0, description="share of the side, in both directions")
    scale: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [1.0, 1.0], description="smallest and largest magnification, also known as zoom"
    )
    shear: Annotated[float, Field(ge=0, le=40)] = Field(0.0, description="degrees to either side")
    crop: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="smallest share of the area that a random crop keeps; it is scaled to full size"
    )
    fill: Literal["border", "zeros", "reflection"] = Field(
        "border", description="what is seen where an image was moved away"
    )
    policy: PolicyConfig | None = Field(None, description="randaugment or trivialaugment")
    colour: Share = Field(0.0, description="strength of changes of brightness, contrast and saturation")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="share of the colour circle, to either side"
    )
    grey: Share = Field(0.0, description="share of the images made grey")
    blur: Annotated[float, Field(ge=0, le=100)] = Field(
        0.0, description="largest standard deviation of a Gaussian blur, in pixels"
    )
    noise: Share = Field(0.0, description="standard deviation of Gaussian noise, pixels being 0 to 1")
    erase: Share = Field(0.0, description="share of the images in which a rectangle becomes noise")
    table: TableAugmentConfig = TableAugmentConfig()

    @model_validator(mode="after")
    def _scales(self) -> AugmentConfig:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale {self.scale}; expected two magnifications, 0 < smallest <= largest")
        return self


# What `augment: auto` means. Photographs may be mirrored and recoloured; what has no colour (digits,
# letters, scans) may turn into something else when it is mirrored, and is moved and bent instead.
PHOTOGRAPHS = AugmentConfig(flip=True, crop=0.4, colour=0.4, grey=0.2)
SIGNS = AugmentConfig(rotate=15, shear=10, translate=0.1, scale=[0.8, 1.2], colour=0.3)

# Half of the share that SCARF corrupts of its second view: here every view is changed.
TABLES = AugmentConfig(table=TableAugmentConfig(swap=0.3))


def augmentation(given: AugmentConfig | Literal["auto"], channels: int | None) -> AugmentConfig:
    """What was asked for, or what suits images of so many channels; None where there are no images."""
    if given != "auto":
        return given
    return TABLES if channels is None else PHOTOGRAPHS if channels == 3 else SIGNS
