"""What a recipe may say about data."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from jichu.core.config import Config, Named
from jichu.core.errors import nearest, shown

IN_MEMORY = "(in memory)"  # the path of data that were given as objects

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


Kind = Literal["number", "category", "timestamp", "text", "tags", "image", "audio", "ignore"]


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


def _switch(value: Any) -> Any:
    """`true` is short for what is usual, `false` for nothing."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class LengthConfig(Config):
    """How many characters a text may have. `[20, 5000]` is short for `{least: 20, most: 5000}`."""

    least: Annotated[int, Field(ge=0)] = 1
    most: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 2:
            return dict(zip(("least", "most"), value, strict=True))
        return value


class QualityConfig(Config):
    """Marks of what is no prose, after the rules for Gopher (Rae et al., 2021)."""

    symbols: Share = Field(0.1, description="most # and … in a word")
    letters: Share = Field(0.8, description="least share of words with a letter")
    repeated: Share = Field(0.3, description="most share of lines that stood there before")
    bullets: Share = Field(0.9, description="most share of lines that begin with a bullet")
    ellipses: Share = Field(0.3, description="most share of lines that end with an ellipsis")
    word: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [3.0, 10.0],
        description="least and most letters of a word on average, where words have blanks between",
    )


class NearConfig(Config):
    """Texts that share so much of their runs of `words` words (a Chinese character is one), found by MinHash
    (Broder, 1997). `0.7` is short for `{threshold: 0.7}`."""

    threshold: Annotated[float, Field(ge=0.3, le=1)] = Field(0.8, description="of the Jaccard index")
    words: Annotated[int, Field(ge=1, le=32)] = 5

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"threshold": value} if isinstance(value, float) else value


class ContaminationConfig(Config):
    """Training texts that share a run of so many words, or of characters where there are no words, with one
    that is held out (Brown et al., 2020)."""

    words: Annotated[int, Field(ge=2, le=64)] = 13
    characters: Annotated[int, Field(ge=2, le=64)] = 30


PersonalKind = Literal[
    "e-mail", "identity card", "social security number", "bank card", "IP address", "phone"
]


def _every_kind(value: Any) -> Any:
    return {True: list(get_args(PersonalKind)), False: None}[value] if isinstance(value, bool) else value


class CleanConfig(Config):
    """Which texts are left out, each with its reason in quarantine.jsonl. What the source itself holds out
    is never left out."""

    length: LengthConfig | None = None
    language: list[str] | None = Field(None, description="those to be kept, such as [en, zh]")
    quality: Annotated[QualityConfig | None, BeforeValidator(_switch)] = None
    personal: Annotated[list[PersonalKind] | None, BeforeValidator(_every_kind)] = Field(
        None,
        description="those with personal data, of any kind where it is `true`, or such as [e-mail, phone]",
    )
    exact: bool = Field(False, description="of equal texts one is kept")
    near: Annotated[NearConfig | None, BeforeValidator(_switch)] = None
    contamination: Annotated[ContaminationConfig | None, BeforeValidator(_switch)] = None

    @model_validator(mode="after")
    def _languages(self) -> CleanConfig:
        if not self.language:
            return self
        from .language import LANGUAGES  # which loads more than a command line needs

        for code in self.language:
            if code not in LANGUAGES:
                raise ValueError(
                    f"{code!r} is no language that is told; expected {', '.join(sorted(LANGUAGES))}"
                )
        return self


class CanariesConfig(Config):
    """Made-up secrets that are planted among the training texts, to measure what a model gives away of them."""

    count: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="of each number of repetitions, and as many that are never planted"
    )
    repeats: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1)] = Field(
        [1, 4, 16, 64], description="how often one is planted"
    )
    format: str = Field(
        "The code of {name} is {secret}.",
        description="a text with {secret} and, before it, {name}, by which it is asked for",
    )
    letters: Annotated[str, Field(min_length=2)] = Field(
        "0123456789", description="of which names and secrets are spelled"
    )
    length: Annotated[int, Field(ge=1, le=64)] = Field(6, description="letters of a secret")

    @model_validator(mode="after")
    def _formed(self) -> CanariesConfig:
        fields = re.findall(r"\{(.*?)\}", self.format)
        if fields != ["name", "secret"]:
            raise ValueError(f"the format {self.format!r}; expected {{name}} and then {{secret}}, each once")
        if len(set(self.letters)) < len(self.letters) or any(c.isspace() for c in self.letters):
            raise ValueError(f"the letters {self.letters!r}; expected each once, and no blanks")
        if len(set(self.repeats)) < len(self.repeats):
            raise ValueError(f"the repeats {self.repeats}; expected each once")
        return self


class SeriesConfig(Config):
    """Rows that follow each other in time, seen through windows: from `context` of them the next `horizon` are
    told."""

    time: str | None = Field(
        None,
        description="the column of times; the first of dates if not given, the order of rows without one",
    )
    by: str | None = Field(None, description="a column that tells series apart")
    context: Annotated[int, Field(ge=1, le=2**16)] = Field(96, description="steps that a model looks at")
    horizon: Annotated[int, Field(ge=1, le=2**14)] = Field(24, description="steps that it forecasts")
    every: Literal["auto", "rows"] = Field(
        "auto",
        description="what a step is: the time that most often lies between two rows, missing ones being gaps; or each row",
    )


TOKENIZERS = ("bpe", "wordpiece", "characters")  # that are trained here


class TokenizerConfig(Config):
    """How texts become tokens. `wordpiece` is short for `{name: wordpiece}`."""

    name: str = Field(
        "bpe",
        description="bpe (byte-level), wordpiece or characters, trained on the training texts; or the folder of one",
    )
    vocabulary: Annotated[int, Field(ge=8, le=2**20)] = Field(8000, description="tokens at most")
    lowercase: bool = Field(False, description="capitals become small letters, and WordPiece drops accents")
    special: Literal["auto", "bert", "gpt", "llama", "t5"] = Field(
        "auto", description="whose special tokens; auto: bert's for wordpiece, else gpt's"
    )
    truncation: Literal["right", "left"] = Field(
        "right", description="the side at which texts longer than the context are cut"
    )
    sample: Annotated[int, Field(ge=1)] = Field(
        2**26, description="bytes of text it is trained on at most, evenly spread"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> TokenizerConfig:
        if self.loaded and not self.name.startswith(("hf:", ".", "/", "~")):
            near = nearest(self.name, TOKENIZERS)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(
                f"no tokenizer {shown(self.name)}; expected one of {', '.join(TOKENIZERS)}, hf:owner/name,"
                f" or a folder as ./folder{hint}"
            )
        return self

    @property
    def loaded(self) -> bool:
        """Whether it is one that exists already."""
        return self.name not in TOKENIZERS


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
    aside: list[str] = Field(
        [], description="columns that no model sees, and that audits can group rows by, such as [sex, race]"
    )
    text: str | Annotated[list[str], Field(min_length=1, max_length=2)] | None = Field(
        None, description="the column of texts to read, or two that are a pair"
    )
    tokenizer: TokenizerConfig | None = Field(
        None, description="how texts become tokens; as suits the backbone if not given"
    )
    windows: Annotated[int, Field(ge=1, le=2**10)] | Literal["auto"] = Field(
        "auto",
        description="a text longer than the context is read in so many windows at most, whose features are"
        " averaged (recurrent networks read on); if 1 it is cut. auto: as by the model that is started from, or 1",
    )
    context: Annotated[int, Field(ge=4, le=2**17)] | Literal["auto"] = Field(
        "auto", description="tokens that a model is given at most; as the model started from has it, else 256"
    )
    clean: CleanConfig = CleanConfig()
    canaries: CanariesConfig | None = Field(
        None,
        description="made-up secrets to plant among the training texts, for the part canaries of an audit",
    )
    weight: str | None = Field(None, description="a column of row weights")
    size: Annotated[int, Field(ge=4, le=4096)] | Literal["auto"] = Field(
        "auto", description="images are stored size × size pixels"
    )
    channels: Literal[1, 3, "auto"] = "auto"
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how an image that is not square becomes so"
    )
    rate: Annotated[int, Field(ge=100, le=384_000)] | Literal["auto"] = Field(
        "auto",
        description="samples a second that sounds are stored with; the most frequent, up to 16,000, if auto",
    )
    seconds: Annotated[float, Field(gt=0, le=3600)] | Literal["auto"] = Field(
        "auto",
        description="sounds are stored so long: the middle of longer ones, silence after shorter ones; if auto as"
        " long as 95% of them, up to 10",
    )
    series: SeriesConfig | None = Field(None, description="numbers that are to be forecast")
    split: SplitConfig = SplitConfig()
    labels_per_class: Annotated[int, Field(ge=1)] | None = Field(
        None, description="use only so many labels of each class, drawn at random; all if not given"
    )
    labels_share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="use only this share of the labels, of each class alike; of series the latest training windows",
    )
    draws: Annotated[int, Field(ge=1)] = Field(
        1, description="how often the labels are drawn anew and everything after is repeated"
    )

    @model_validator(mode="after")
    def _draws_of_something(self) -> DataConfig:
        if self.aside and self.series is not None:
            raise ValueError("aside does nothing with series, whose rows are windows; expected no such key")
        if self.labels_per_class is not None and self.labels_share is not None:
            raise ValueError("labels_per_class and labels_share are both given; expected one of them")
        if self.draws > 1 and self.labels_per_class is None and (self.labels_share or self.series) is None:
            raise ValueError(
                "draws without labels_per_class or labels_share; expected how many labels to draw"
            )
        if self.draws > 1 and self.series is not None:
            raise ValueError("draws of the latest windows are all the same; expected one, and several seeds")
        return self


Degrees = Annotated[float, Field(ge=0, le=180)]


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


class AudioAugmentConfig(Config):
    """How far sounds are changed at random; every change is off unless given."""

    shift: Share = Field(0.0, description="share of the length by which it is moved, to either side")
    speed: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share by which it is played faster or slower, and so higher or lower"
    )
    gain: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="decibels louder or softer, at most")
    tone: Annotated[float, Field(ge=0, le=60)] = Field(
        0.0,
        description="decibels by which low, middle and high pitches are louder or softer, as another microphone has it",
    )
    noise: Share = Field(0.0, description="white noise, at most so much of the sound's own root mean square")
    times: Annotated[int, Field(ge=0, le=16)] = Field(0, description="stretches of time that are hidden")
    bands: Annotated[int, Field(ge=0, le=16)] = Field(0, description="stretches of pitch that are hidden")
    hidden: Share = Field(0.2, description="share of all time, or of all pitches, that a stretch has at most")


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
    audio: AudioAugmentConfig = AudioAugmentConfig()

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

# What Park et al. (2019) hide of a spectrogram, and small changes of when, how fast and how loud.
SOUNDS = AugmentConfig(
    audio=AudioAugmentConfig(shift=0.1, speed=0.1, gain=6, noise=0.1, times=2, bands=2, hidden=0.2)
)


def augmentation(
    given: AugmentConfig | Literal["auto"], kind: str, channels: int | None = None
) -> AugmentConfig:
    """What was asked for, or what suits such data: images by how many channels they have."""
    if given != "auto":
        return given
    return {"table": TABLES, "audio": SOUNDS, "series": AugmentConfig()}.get(
        kind, PHOTOGRAPHS if channels == 3 else SIGNS
    )


class SpectrogramConfig(Config):
    """How finely pitch and time are told apart."""

    mels: Annotated[int, Field(ge=8, le=512)] = Field(64, description="bands of pitch, on the mel scale")
    window: Annotated[float, Field(gt=0, le=1)] = Field(0.025, description="seconds looked at together")
    hop: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="seconds from one look to the next")
