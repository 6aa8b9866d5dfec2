"""What may be said of a server, and how much it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jichu.core.config import Config

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Limits(Config):
    """Of every server: where it listens, and what it takes."""

    host: str = Field(
        "127.0.0.1", description="the address to listen at; others than this machine's own need a token"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0 takes one that is free")
    queue: Count = Field(512, description="requests that wait; more are told to come again")
    body: Annotated[float, Field(gt=0)] = Field(32.0, description="MiB of a request")
    patience: Seconds = Field(
        20.0,
        description="seconds within which a request has to be sent, and something of its answer to be read",
    )
    drain: Seconds = Field(30.0, description="seconds for what was begun when the server is to end")
    rate: Count | None = Field(None, description="requests a minute of each key")

    @property
    def most_bytes(self) -> int:
        """Of a request."""
        return int(self.body * 2**20)


class Settings(Limits):
    """Keys of `jichu serve` and of `jichu.serve`."""

    batch: Count = Field(64, description="rows that are predicted together at most")
    wait: Annotated[float, Field(ge=0)] = Field(
        2.0, description="milliseconds that a row waits for others at most"
    )
    texts: Count = Field(16, description="texts that a language model writes at the same time")
    queue: Count = Field(
        512, description="rows or texts that wait for each model; more are told to come again"
    )
    rows: Count = Field(256, description="rows of a request")
    timeout: Seconds = Field(60.0, description="seconds within which an answer is given")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="auto measures which is faster; the last digits of answers then differ from jichu predict",
    )
    play: bool = Field(
        False, description="whether rows of the run's own data are shown, as the playground wants them"
    )
    keep: str | None = Field(
        None,
        min_length=1,
        description="the folder in which rows and right answers are kept; none if not given",
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(0.1, description="share of the rows that is kept")
    keep_media: Literal["traits", "thumbnail", "whole"] = Field(
        "thumbnail",
        description="what is kept of images and sounds beside what can be said of them in numbers",
    )
    keep_most: Count = Field(
        1024, description="MiB of requests at most, the oldest go; and of right answers of each model"
    )
    keep_rows: Count = Field(1000, description="rows from which a file is written")
    keep_seconds: Seconds = Field(60.0, description="seconds after which one is written with fewer")
    new_classes: bool = Field(
        False, description="whether right answers may be classes that the model does not know"
    )
