"""What may be said of a board."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jichu.ship.server.settings import Limits


class Settings(Limits):
    """Keys of `jichu board`."""

    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="0 takes one that is free")
    body: Annotated[float, Field(gt=0)] = Field(0.1, description="MiB of a request")
    drain: Annotated[float, Field(gt=0)] = Field(
        2.0, description="seconds for what was begun when it is to end"
    )
