"""What a recipe may say of a rule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jichu.core.config import Config

Action = Literal["enforce", "flag"]


class RuleConfig(Config):
    """A rule in words, and what becomes of answers that break it."""

    rule: str = Field(
        min_length=1, max_length=10_000, description="age >= 0, or if kind = cat then animal = yes"
    )
    name: str | None = Field(
        None, min_length=1, description="what it is called; the rule itself if not given"
    )
    action: Action | None = Field(
        None,
        description="enforce: the answer is changed; flag: it is told. Of a rule about what is predicted enforce, of one"
        " about inputs flag, if not given",
    )
    penalty: Annotated[float, Field(ge=0)] = Field(
        0.0, description="what breaking it counts in the loss while training"
    )

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.rule


def _short(value: Any) -> Any:
    return {"rule": value} if isinstance(value, str) else value


# In YAML either `age >= 0` or `{rule: age >= 0, name: born}`.
RuleText = Annotated[RuleConfig, BeforeValidator(_short)]
